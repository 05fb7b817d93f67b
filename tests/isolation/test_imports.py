"""A run that cannot be imported is named, and the others are imported."""

from pathlib import Path

import pytest

from runsadmin.models import Run
from runsadmin.services import run_lines
from tests.archive import add_archive, lines
from tests.conftest import Connect
from tests.isolation.conftest import Refuse
from tests.management.conftest import Manage, manage  # noqa: F401 - a fixture
from tests.sandbox_client import make_run

RUNS = [make_run(id=f"run_{n}", thread_id="thread_a") for n in range(5)]


@pytest.fixture
def file(connect: Connect, transactional_db: None, tmp_path: Path) -> str:
    add_archive(connect)
    (tmp_path / "runs.jsonl").write_bytes(lines(*RUNS))
    return str(tmp_path / "runs.jsonl")


def test_refused_run_is_named(file: str, manage: Manage, refuse: Refuse) -> None:  # noqa: F811 - the fixture
    refuse("runsadmin_run", "NEW.upstream_id = 'run_3'")
    output = manage("import_runs", file)
    assert output.code != 0
    assert "line 4" in output.err
    assert "refused" in output.err
    assert sorted(Run.objects.values_list("upstream_id", flat=True)) == ["run_0", "run_1", "run_2", "run_4"]


def test_internal_error_is_named(file: str, manage: Manage, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    read = run_lines.read

    def fail(run: object) -> object:
        if isinstance(run, dict) and run["id"] == "run_3":
            raise RecursionError("too deep")
        return read(run)

    monkeypatch.setattr(run_lines, "read", fail)
    output = manage("import_runs", file)
    assert output.code != 0
    assert "line 4: The run could not be read because of an internal error (RecursionError); see the log." in output.err
    assert Run.objects.count() == 4
