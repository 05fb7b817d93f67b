"""Summaries of commands count all errors, even if only some are shown."""

from collections.abc import Callable
from pathlib import Path

import pytest
from django.contrib.auth.models import User

from runsadmin.models import Run, Thread
from tests.fake_upstream import FakeUpstream, Request, Response
from tests.management.conftest import Manage, manage  # noqa: F401 - fixture
from tests.sandbox_client import make_run

pytestmark = pytest.mark.django_db(transaction=True)

MANY = 27


@pytest.fixture
def runs(mirror_runs: Callable[..., list[Run]], alice: User) -> list[Run]:
    return mirror_runs(*(make_run() for _ in range(MANY)))


def rewrite(request: Request) -> Response | None:
    """The response of a server that stores values in capitals."""
    if not request.is_write:
        return None
    run = make_run(id=request.parts[-1], thread_id=request.parts[1])
    return Response(200, run | {"metadata": {key: value.upper() for key, value in request.json["metadata"].items()}})


def refuse(request: Request) -> Response | None:
    return Response(422, {"message": "No."}) if request.is_write else None


@pytest.mark.parametrize("override", [rewrite, refuse], ids=["differs", "rejected"])
@pytest.mark.parametrize("options", [[], ["--json"]], ids=["text", "JSON"])
def test_all_failed_edits_are_counted(
    upstream: FakeUpstream,
    runs: list[Run],
    manage: Manage,  # noqa: F811
    tmp_path: Path,
    override: Callable[[Request], Response | None],
    options: list[str],
) -> None:
    ids = tmp_path / "ids"
    ids.write_text("\n".join(run.upstream_id for run in runs))
    upstream.override(override)
    output = manage(
        "edit_metadata", "--ids-from", str(ids), "--set", "team=red", "--reason", "x", "--actor", "alice", *options
    )
    assert output.code == 1
    assert f"{MANY} errors, listed above." in output.err


def test_all_errors_of_a_sync_are_counted(upstream: FakeUpstream, runs: list[Run], manage: Manage) -> None:  # noqa: F811
    Thread.objects.bulk_create(Thread(connection="default", upstream_id=f"thread_{n}") for n in range(MANY))
    output = manage("sync_runs", "--full")
    assert f"{MANY} errors, listed above." in output.err


def test_all_invalid_ids_are_counted(upstream: FakeUpstream, manage: Manage, alice: User) -> None:  # noqa: F811
    output = manage("track_threads", *(f"{'x' * 200}{n}" for n in range(MANY)), "--actor", "alice")
    assert f"{MANY} errors, listed above." in output.err


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["text", "JSON"])
def test_all_unknown_runs_are_counted(runs: list[Run], manage: Manage, tmp_path: Path, options: list[str]) -> None:  # noqa: F811
    ids = tmp_path / "ids"
    ids.write_text("\n".join([runs[0].upstream_id, *(f"run_unknown{n}" for n in range(MANY))]))
    output = manage(
        "edit_metadata", "--ids-from", str(ids), "--set", "team=red", "--reason", "x", "--actor", "alice", *options
    )
    assert f"{MANY} errors, listed above." in output.err
