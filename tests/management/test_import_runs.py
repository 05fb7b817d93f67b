"""`import_runs`: which files it reads, what it reports, and that an interrupted import is continued."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from loadtests.environment import database_url
from runsadmin.models import MetadataPair, Run, Thread
from runsadmin.services import imports
from tests.archive import ALIAS, add_archive, lines
from tests.conftest import Connect
from tests.management.conftest import Manage
from tests.sandbox_client import ROOT, Json, make_run
from tests.waiting import until

RUNS = [make_run(id=f"run_{n}", thread_id=f"thread_{n % 2}", metadata={"n": str(n)}) for n in range(3)]


@pytest.fixture
def archive(connect: Connect, db: None) -> str:
    return add_archive(connect)


@pytest.fixture
def file(tmp_path: Path) -> Callable[[bytes], str]:
    def file(content: bytes) -> str:
        (tmp_path / "runs.jsonl").write_bytes(content)
        return str(tmp_path / "runs.jsonl")

    return file


def listed(runs: list[Json]) -> Json:
    return {"object": "list", "data": runs, "has_more": False}


@pytest.mark.parametrize(
    "content",
    [
        lines(*RUNS),
        lines(*RUNS).replace(b"\n", b"\r\n\n").removesuffix(b"\n"),
        b"\xef\xbb\xbf" + lines(*RUNS).rstrip(b"\n"),
        json.dumps(RUNS).encode(),
        json.dumps(RUNS, indent=2).encode(),
        b"[\n" + lines(RUNS[0]) + b",\n" + lines(RUNS[1]) + b",\n" + lines(RUNS[2]) + b"]\n",
        b"[\n" + b",\n".join(json.dumps(run).encode() for run in RUNS) + b"\n]",
        json.dumps(listed(RUNS), indent=2).encode(),
        json.dumps(listed(RUNS)).encode(),
        lines(listed(RUNS[:2]), listed(RUNS[2:])),
        lines(*RUNS[:2], *RUNS),
    ],
)
def test_file_in_any_layout_is_read(archive: str, manage: Manage, file: Callable[[bytes], str], content: bytes) -> None:
    output = manage("import_runs", file(content), "--json")
    assert (output.code, output.err) == (0, "")
    assert {run.upstream_id: run.data for run in Run.objects.all()} == {run["id"]: run for run in RUNS}
    assert set(Run.objects.values_list("connection", "thread__connection", "thread__tracked")) == {
        (ALIAS, ALIAS, False)
    }
    assert MetadataPair.objects.count() == 3
    assert output.objects[-1]["created"] == 3


def test_bad_lines_are_reported(archive: str, manage: Manage, file: Callable[[bytes], str]) -> None:
    Thread.objects.create(connection=ALIAS, upstream_id="thread_1")
    content = lines(
        b"{broken", RUNS[0], b'"text"', make_run(id=""), make_run(thread_id=None), RUNS[1] | {"thread_id": "thread_9"},
        {"object": "thread.message", "id": "msg_1", "thread_id": "thread_1"}, lines([RUNS[2], 7]).strip(),
    )  # fmt: skip
    manage("import_runs", file(lines(RUNS[1])))
    output = manage("import_runs", file(content))
    assert output.code == 1
    assert [line.partition(":")[0] for line in output.err.splitlines()[:-1]] == [
        "line 1", "line 3", "line 4", "line 5", "line 7", "line 8, item 2", "line 6",
    ]  # fmt: skip
    assert "already in another thread" in output.err
    assert "2 runs read into old: 2 new, 0 changed, 0 unchanged." in output.out
    assert Run.objects.get(upstream_id="run_1").thread.upstream_id == "thread_1"


def test_only_first_bad_lines_are_shown(archive: str, manage: Manage, file: Callable[[bytes], str]) -> None:
    name = file(b"x\n" * 600)
    output = manage("import_runs", name)
    assert "… and 580 more" in output.err
    assert "600 errors" in output.err
    assert len(manage("import_runs", name, "--json").objects) == 601


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "The file has no runs."),
        (b" \n", "The file has no runs."),
        (json.dumps(RUNS, indent=2).encode()[:-1], "It may be incomplete"),
    ],
)
def test_invalid_file_is_refused(
    archive: str, manage: Manage, file: Callable[[bytes], str], content: bytes, message: str
) -> None:
    output = manage("import_runs", file(content))
    assert output.code == 1
    assert message in output.err
    assert not Run.objects.exists()


def test_large_values_are_refused(
    archive: str, manage: Manage, file: Callable[[bytes], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "MAX_BYTES", 1000)
    for content in (json.dumps(RUNS).encode(), json.dumps(RUNS, indent=1).encode()):
        assert "jq -c '.[]'" in manage("import_runs", file(content)).err


def test_missing_file_is_reported(archive: str, manage: Manage, tmp_path: Path) -> None:
    assert "Check its name" in manage("import_runs", str(tmp_path / "none")).err


def test_only_archives_are_filled(connect: Connect, db: None, manage: Manage, file: Callable[[bytes], str]) -> None:
    name = file(lines(*RUNS))
    assert "There is no archive" in manage("import_runs", name).err
    add_archive(connect)
    assert "has an upstream" in manage("import_runs", name, "--connection", "default").err
    add_archive(connect, "older")
    assert "Name one of: old, older" in manage("import_runs", name).err
    assert not Run.objects.exists()
    assert manage("import_runs", name, "--connection", "older").code == 0


def test_repeated_import_writes_changes_only(archive: str, manage: Manage, file: Callable[[bytes], str]) -> None:
    manage("import_runs", file(lines(*RUNS)))
    before = dict(Run.objects.values_list("upstream_id", "version"))
    changed = RUNS[0] | {"metadata": {"n": "new"}}
    output = manage("import_runs", file(lines(changed, *RUNS[1:])))
    assert "0 new, 1 changed, 2 unchanged" in output.out
    assert dict(Run.objects.values_list("upstream_id", "version")) == before | {"run_0": 2}
    assert MetadataPair.objects.get(run__upstream_id="run_0").value == "new"


@pytest.mark.django_db(transaction=True)
def test_killed_import_is_continued(tmp_path: Path) -> None:
    file = tmp_path / "runs.jsonl"
    file.write_bytes(lines(*(make_run(metadata={"n": str(n)}) for n in range(8_000))))
    archive = {"RUNSADMIN_CONNECTIONS": ALIAS, "RUNSADMIN_UPSTREAM_OLD_KIND": "archive"}
    shared = {
        "ENV_FILE": os.devnull,
        "SECRET_KEY": "x" * 60,
        "DATABASE_URL": database_url(),
        "PATH": os.environ["PATH"],
    }
    command = [sys.executable, "manage.py", "import_runs", str(file)]

    def imported() -> int:
        return Run.objects.count()

    for _ in range(3):
        process = subprocess.Popen(command, cwd=ROOT, env=shared | archive, stderr=subprocess.DEVNULL)
        before = imported()
        until(lambda before=before: imported() > before)  # type: ignore[misc]
        process.kill()
        process.wait()
        assert before < imported() < 8_000

    subprocess.run(command, cwd=ROOT, env=shared | archive, check=True, capture_output=True)
    assert imported() == MetadataPair.objects.values("value").distinct().count() == 8_000
