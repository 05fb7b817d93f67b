"""An outage uses no attempts: the connection is held, and edits continue when the server responds again."""

import time
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.utils import timezone

from runsadmin.models import ConnectionState, Edit, EditStatus, Run, Sync
from runsadmin.services import connections, probes, syncs
from tests.conftest import Connect
from tests.fake_upstream import CUT, FakeUpstream, Override, Request, Response
from tests.quirks.conftest import process_due, push_or_process, record, sync
from tests.sandbox_client import make_run

pytestmark = pytest.mark.django_db(transaction=True)

Hold = ConnectionState.Hold


def slow(request: Request) -> Response:
    time.sleep(0.5)
    return Response(200, {})


OUTAGES: dict[str, Override] = {
    "cut": lambda request: CUT,
    "timed out": slow,
    "502": lambda request: Response(502, "<html><title>502 Bad Gateway</title></html>"),
    "503 without Retry-After": lambda request: Response(503, b""),
    "504": lambda request: Response(504, b""),
}


def probe_now() -> None:
    ConnectionState.objects.update(next_probe_at=timezone.now())
    probes.probe_held()


def assert_held(edit: Edit) -> None:
    edit.refresh_from_db()
    assert (edit.status, edit.wait_reason, edit.attempts) == (EditStatus.PENDING, Edit.WaitReason.HELD, 0)
    assert connections.state("default").hold == Hold.UNREACHABLE


@pytest.mark.parametrize("background", [False, True], ids=["one edit", "in the background"])
@pytest.mark.parametrize("outage", OUTAGES.values(), ids=OUTAGES)
def test_outage_holds_the_connection(
    upstream: FakeUpstream, run: Run, alice: User, connect: Connect, outage: Override, background: bool
) -> None:
    connect(CONNECT_TIMEOUT=0.2, READ_TIMEOUT=0.1)
    upstream.override(outage)
    edit = record(run, alice)
    push_or_process(edit, background=background)
    assert_held(edit)
    probe_now()
    assert_held(edit)

    upstream.clear_overrides()
    probe_now()
    assert not connections.is_held("default")
    process_due(times=2)
    edit.refresh_from_db()
    assert edit.status == EditStatus.APPLIED


@pytest.mark.parametrize("background", [False, True], ids=["one edit", "in the background"])
def test_refused_connections_cause_a_hold(
    upstream: FakeUpstream, run: Run, alice: User, connect: Connect, background: bool
) -> None:
    connect(URL="http://127.0.0.1:9/v1")
    edit = record(run, alice)
    for _ in range(10):
        push_or_process(edit, background=background)
        assert_held(edit)
    connect(URL=upstream.url)
    probe_now()
    process_due(times=2)
    edit.refresh_from_db()
    assert edit.status == EditStatus.APPLIED


@pytest.mark.parametrize("background", [False, True], ids=["one edit", "in the background"])
@pytest.mark.parametrize("outage", OUTAGES.values(), ids=OUTAGES)
def test_one_bad_run_is_not_an_outage(
    upstream: FakeUpstream, run: Run, alice: User, connect: Connect, outage: Override, background: bool
) -> None:
    connect(CONNECT_TIMEOUT=0.2, READ_TIMEOUT=0.1)
    upstream.override(lambda request: outage(request) if run.upstream_id in request.parts else None)
    edit = record(run, alice)
    push_or_process(edit, background=background)
    edit.refresh_from_db()
    assert (edit.status, edit.wait_reason) == (EditStatus.PENDING, Edit.WaitReason.RETRY)
    assert edit.attempts >= 1
    assert not connections.is_held("default")


def test_outage_uses_no_attempts_of_a_batch(
    upstream: FakeUpstream, mirror_runs: Callable[..., list[Run]], alice: User
) -> None:
    runs = mirror_runs(*(make_run(thread_id=f"thread_{number % 4}") for number in range(40)))
    recorded = [record(run, alice) for run in runs]
    upstream.override(lambda request: CUT)
    process_due(times=3)
    assert set(Edit.objects.values_list("status", "attempts")) == {(EditStatus.PENDING, 0)}
    upstream.clear_overrides()
    probe_now()
    process_due(times=2)
    assert set(Edit.objects.values_list("status", flat=True)) == {EditStatus.APPLIED}
    assert len(recorded) == len(upstream.writes)


def test_sync_waits_for_the_end_of_an_outage(upstream: FakeUpstream, run: Run) -> None:
    upstream.override(lambda request: CUT)
    waiting = sync()
    assert (waiting.status, waiting.errors_count) == (Sync.Status.RUNNING, 0)
    assert connections.state("default").hold == Hold.UNREACHABLE
    upstream.clear_overrides()
    probe_now()
    assert syncs.run(waiting, until=float("inf")).status == Sync.Status.COMPLETED


# --- Commands release connections without a worker


@pytest.fixture
def held_run(upstream: FakeUpstream, run: Run) -> Run:
    """A run whose connection is held because of an outage that has ended."""
    connections.hold("default", Hold.UNREACHABLE, "No request gets through.")
    return run


COMMANDS = {
    "edit_metadata": ("edit_metadata", "{run}", "--set", "triage=done"),
    "edit_metadata --where": ("edit_metadata", "--where", "id:{run}", "--set", "triage=done", "--reason", "Sorting"),
    "sync_runs": ("sync_runs", "--full"),
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_command_releases_a_working_connection(held_run: Run, admin_user: User, command: tuple[str, ...]) -> None:
    call_command(*(argument.format(run=held_run.upstream_id) for argument in command))
    assert not connections.is_held("default")
    if command[0] != "sync_runs":
        assert Run.objects.get(pk=held_run.pk).metadata["triage"] == "done"


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_command_reports_hold_reason(
    held_run: Run,
    admin_user: User,
    upstream: FakeUpstream,
    command: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    upstream.override(lambda request: CUT)
    arguments = [argument.format(run=held_run.upstream_id) for argument in command]
    with pytest.raises(CommandError):
        call_command(*arguments, *([] if command[0] == "sync_runs" else ["--wait", "1"]))
    assert "No request gets through." in capsys.readouterr().err


def test_command_continues_after_an_outage(
    held_run: Run, admin_user: User, upstream: FakeUpstream, capsys: pytest.CaptureFixture[str]
) -> None:
    ends_at = time.monotonic() + 1
    upstream.override(lambda request: CUT if time.monotonic() < ends_at else None)
    connections.release("default")
    call_command(
        "edit_metadata", "--where", f"id:{held_run.upstream_id}", "--set", "triage=done", "--reason", "Sorting"
    )
    assert Run.objects.get(pk=held_run.pk).metadata["triage"] == "done"
