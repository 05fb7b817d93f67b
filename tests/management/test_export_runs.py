"""`export_runs`: the file, its manifest, and what it reports."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User

from runsadmin.models import Export, Run, SavedView
from runsadmin.services import views
from runsadmin.services.exports import formats
from tests.archive import add_archive
from tests.conftest import Connect, MakeRun
from tests.management.conftest import Manage

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def runs(mirror_run: MakeRun) -> list[Run]:
    return [mirror_run(id=f"run_{n}", metadata={"team": "blue" if n else "red", "n": str(n)}) for n in range(3)]


def test_file_and_manifest_are_written(manage: Manage, runs: list[Run], tmp_path: Path) -> None:
    file = tmp_path / "runs.csv"
    output = manage("export_runs", str(file), "--where", "metadata.team:blue", "--columns", "id,metadata.n", "--json")
    assert (output.code, output.err) == (0, "")
    assert file.read_bytes() == b'"id","metadata.n"\r\n"run_2","2"\r\n"run_1","1"\r\n'
    manifest = json.loads((tmp_path / "runs.csv.manifest.json").read_text())
    assert (manifest["search"], manifest["runs"], manifest["format"]) == ("metadata.team:blue", 2, "csv")
    assert output.objects == [{"file": str(file), "manifest": manifest}]
    assert len(list(tmp_path.iterdir())) == 2
    assert not Export.objects.exists()


@pytest.mark.parametrize(
    ("name", "options", "beginning"),
    [
        ("runs.jsonl", [], b'{"id":'),
        ("runs.parquet", [], b"PAR1"),
        ("runs", [], b'"id",'),
        ("runs.csv", ["--format", "jsonl"], b'{"id":'),
    ],
)
def test_name_decides_the_format(
    manage: Manage, runs: list[Run], tmp_path: Path, name: str, options: list[str], beginning: bytes
) -> None:
    assert manage("export_runs", str(tmp_path / name), *options).out == "3 runs exported.\n"
    assert (tmp_path / name).read_bytes().startswith(beginning)


def test_view_gives_search_and_columns(manage: Manage, runs: list[Run], tmp_path: Path, admin_user: User) -> None:
    views.save(view=SavedView(name="Blue", query="metadata.team:blue", columns="metadata.n"), actor=admin_user)
    file = tmp_path / "runs.csv"
    manage("export_runs", str(file), "--view", "blue")
    assert file.read_bytes() == b'"metadata.n"\r\n"2"\r\n"1"\r\n'
    assert "not both" in manage("export_runs", str(file), "--view", "blue", "--where", "x").err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--where", "color:red"], "there is no field 'color'"),
        (["--columns", "statsu"], "Did you mean status?"),
        (["--columns", "id", "--format", "jsonl"], "whole runs"),
        (["--view", "none"], "There is no view"),
    ],
)
def test_wrong_options_write_nothing(
    manage: Manage, admin_user: User, tmp_path: Path, options: list[str], message: str
) -> None:
    output = manage("export_runs", str(tmp_path / "runs.csv"), *options)
    assert output.code == 1
    assert message in output.err
    assert list(tmp_path.iterdir()) == []


def test_incomplete_file_is_not_kept(
    manage: Manage, runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(formats._CSV, "add", failing)
    assert "No space left" in manage("export_runs", str(tmp_path / "runs.csv")).err
    assert list(tmp_path.iterdir()) == []


def test_link_pipe_and_device_stay(manage: Manage, runs: list[Run], tmp_path: Path) -> None:
    target, link, pipe = tmp_path / "target.csv", tmp_path / "link.csv", tmp_path / "pipe"
    target.write_text("old")
    link.symlink_to(target)
    os.mkfifo(pipe)
    assert manage("export_runs", str(link), "--columns", "id").code == 0
    assert link.is_symlink()
    with ThreadPoolExecutor(1) as pool:
        piped = pool.submit(pipe.read_bytes)
        assert manage("export_runs", str(pipe), "--columns", "id").code == 0
        assert piped.result(10) == target.read_bytes() == b'"id"\r\n"run_2"\r\n"run_1"\r\n"run_0"\r\n'
    assert {path.name for path in tmp_path.iterdir()} == {"link.csv", "link.csv.manifest.json", "pipe", "target.csv"}
    assert "cannot be written" in manage("export_runs", str(tmp_path)).err


def test_overlapping_exports_do_not_mix(
    manage: Manage, runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, add = tmp_path / "runs.csv", formats._CSV.add
    (tmp_path / "runs.csv.part").write_text("of another program")

    def overlapping(writer: Any, chunk: Any) -> bytes:
        monkeypatch.undo()
        assert manage("export_runs", str(file), "--columns", "id", "--where", "metadata.team:red").code == 0
        return add(writer, chunk)

    monkeypatch.setattr(formats._CSV, "add", overlapping)
    assert manage("export_runs", str(file), "--columns", "id").out == "3 runs exported.\n"
    assert file.read_bytes().count(b"run_") == 3
    assert json.loads((tmp_path / "runs.csv.manifest.json").read_text())["runs"] == 3
    assert (tmp_path / "runs.csv.part").read_text() == "of another program"


def test_imported_export_has_the_same_digests(
    manage: Manage, runs: list[Run], tmp_path: Path, connect: Connect
) -> None:
    digests = set(Run.objects.values_list("upstream_id", "digest"))
    manage("export_runs", str(tmp_path / "runs.jsonl"))
    Run.objects.all().delete()
    add_archive(connect)
    assert manage("import_runs", str(tmp_path / "runs.jsonl")).code == 0
    assert set(Run.objects.values_list("upstream_id", "digest")) == digests
