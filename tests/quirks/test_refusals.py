"""A refusal affects only what the server refuses: some metadata, one thread or all writes."""

import datetime as dt
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from runsadmin.models import ConnectionState, Edit, EditStatus, Run, Sync, Thread
from runsadmin.services import connections, edits, probes
from tests.fake_upstream import FakeUpstream, Override, Request, Response, error_response
from tests.quirks.conftest import process_due, push, push_or_process, record, sync
from tests.sandbox_client import make_run

pytestmark = pytest.mark.django_db(transaction=True)

Hold = ConnectionState.Hold
HTML = Response(403, "<html><head><title>Request blocked</title></head></html>", {"Content-Type": "text/html"})


def refuse(*words: str, response: Response | None = None) -> Override:
    """Returns an override that refuses requests whose method, path or body contains one of these words."""

    def override(request: Request) -> Response | None:
        text = f"{request.method} {request.path} {request.body.decode()}"
        return (response or error_response(403, "You may not.")) if any(word in text for word in words) else None

    return override


@pytest.fixture
def runs(mirror_runs: Callable[..., list[Run]]) -> list[Run]:
    """Five runs in five threads."""
    return mirror_runs(*(make_run(thread_id=f"thread_{number}", id=f"run_{number}") for number in range(5)))


REFUSED: dict[str, tuple[Override, str]] = {
    "some metadata, by a firewall": (refuse("drop table", response=HTML), "Request blocked"),
    "one thread": (refuse("POST /threads/thread_0/"), "You may not."),
    "one run, also for reading": (refuse("run_0"), "You may not."),
    "one run, with an empty body": (refuse("POST /threads/thread_0/runs/run_0", response=Response(403)), "403"),
}


@pytest.mark.parametrize("background", [False, True], ids=["single", "background"])
@pytest.mark.parametrize(("refusal", "message"), REFUSED.values(), ids=REFUSED)
def test_refused_edit_is_rejected_after_a_success(
    upstream: FakeUpstream, runs: list[Run], alice: User, refusal: Override, message: str, background: bool
) -> None:
    upstream.override(refusal)
    edit = record(runs[0], alice, {"note": "drop table"})
    push_or_process(edit, background=background)
    edit.refresh_from_db()
    assert (edit.status, edit.wait_reason, edit.refusals, edit.attempts) == (
        EditStatus.PENDING,
        Edit.WaitReason.REFUSED,
        1,
        0,
    )
    assert message in edit.detail
    assert not connections.is_held("default")

    other = record(runs[1], alice)
    if background:
        Edit.objects.filter(pk=other.pk).update(next_attempt_at=timezone.now())
        edits.process_due(until=float("inf"))
    else:
        edits.push(other)
    edit.refresh_from_db()
    assert (edit.status, edit.http_status) == (EditStatus.REJECTED, 403)
    assert message in edit.detail


def test_refused_edits_are_queried_only_if_any_wait(upstream: FakeUpstream, runs: list[Run], alice: User) -> None:
    def queries_refused_edits(run: Run) -> bool:
        with CaptureQueriesContext(connection) as queries:
            edits.push(record(run, alice, {"team": "red"}))
        return any("'refused'" in query["sql"] for query in queries)

    upstream.override(refuse("thread_0"))
    assert not queries_refused_edits(runs[1])
    edits.push(record(runs[0], alice, {"team": "red"}))
    assert queries_refused_edits(runs[2])
    assert not queries_refused_edits(runs[3]), "The refused edit has been rejected, so none waits."


@pytest.mark.parametrize("background", [False, True], ids=["single", "background"])
@pytest.mark.parametrize(("refusal", "message"), REFUSED.values(), ids=REFUSED)
def test_sole_edit_is_rejected_at_second_refusal(
    upstream: FakeUpstream, runs: list[Run], alice: User, refusal: Override, message: str, background: bool
) -> None:
    upstream.override(refusal)
    edit = record(runs[0], alice, {"note": "drop table"})
    for _ in range(2):
        Edit.objects.update(next_attempt_at=timezone.now())
        push_or_process(edit, background=background)
    edit.refresh_from_db()
    assert (edit.status, edit.http_status) == (EditStatus.REJECTED, 403)
    assert message in edit.detail


@pytest.mark.parametrize("background", [False, True], ids=["single", "background"])
@pytest.mark.parametrize("status", [403, 401])
def test_read_only_role_holds_writing(
    upstream: FakeUpstream, runs: list[Run], alice: User, background: bool, status: int
) -> None:
    upstream.override(refuse("POST", response=error_response(status, "Read-only role.")))
    recorded = [record(run, alice) for run in runs]
    if background:
        process_due()
    else:
        for edit in recorded:
            edits.push(edit)
    state = connections.state("default")
    assert (state.hold, "Read-only role." in state.hold_detail) == (Hold.WRITING, True)
    assert set(Edit.objects.values_list("status", flat=True)) == {EditStatus.PENDING}
    writes = len(upstream.writes)

    for _ in range(3):  # Successful reads prove nothing about writes.
        assert sync().status == Sync.Status.COMPLETED
        probes.probe_held()
        process_due()
    assert connections.state("default").hold == Hold.WRITING
    assert len(upstream.writes) == writes

    ConnectionState.objects.update(next_probe_at=timezone.now())
    process_due()
    assert len(upstream.writes) == writes + 1, "Only one pending edit is tried."
    next_probe_at = connections.state("default").next_probe_at
    assert next_probe_at is not None
    assert next_probe_at - timezone.now() > dt.timedelta(minutes=4)
    assert set(Edit.objects.values_list("status", flat=True)) == {EditStatus.PENDING}

    upstream.clear_overrides()
    ConnectionState.objects.update(next_probe_at=timezone.now())
    process_due(times=2)
    assert connections.state("default").hold == Hold.NONE
    process_due()
    assert set(Edit.objects.values_list("status", flat=True)) == {EditStatus.APPLIED}


def test_refusals_in_two_threads_hold_nothing(upstream: FakeUpstream, runs: list[Run], alice: User) -> None:
    upstream.override(refuse("POST /threads/thread_0", "POST /threads/thread_1"))
    for run in runs[:2]:
        push(run, alice)
    assert not connections.is_held("default")
    assert push(runs[2], alice).status == EditStatus.APPLIED
    assert Edit.objects.filter(status=EditStatus.REJECTED).count() == 2


def test_401_never_rejects_an_edit(upstream: FakeUpstream, runs: list[Run], alice: User) -> None:
    upstream.override(lambda request: error_response(401, "Invalid key."))
    edit = push(runs[0], alice)
    for _ in range(10):
        edits.push(edit)
        probes.probe_held()
    edit.refresh_from_db()
    assert (edit.status, edit.wait_reason, edit.attempts) == (EditStatus.PENDING, Edit.WaitReason.HELD, 0)
    assert connections.state("default").hold == Hold.CREDENTIALS


def test_refused_thread_is_an_error_of_the_sync(upstream: FakeUpstream, runs: list[Run]) -> None:
    upstream.override(refuse("/threads/thread_0/runs"))
    done = sync()
    assert (done.status, done.errors_count, done.threads_done) == (Sync.Status.COMPLETED_WITH_ERRORS, 1, 5)
    assert "You may not." in done.errors.get().message
    assert not connections.is_held("default")


# --- 404


GONE: dict[str, Response] = {
    "the API's message": error_response(404, "No thread found with id 'thread_0'."),
    "a bare 404": Response(404),
    "HTML": Response(404, "<html><title>Not Found</title></html>"),
}


@pytest.mark.parametrize("response", GONE.values(), ids=GONE)
def test_sole_thread_can_be_missing(
    upstream: FakeUpstream, mirror_runs: Callable[..., list[Run]], alice: User, response: Response
) -> None:
    (run,) = mirror_runs(make_run(thread_id="thread_0"))
    upstream.override(refuse("thread_0", response=response))
    assert push(run, alice).status == EditStatus.REJECTED
    sync()
    assert Thread.objects.get().missing_since is not None
    ConnectionState.objects.update(next_probe_at=timezone.now())
    probes.probe_held()
    assert not connections.is_held("default")


def test_two_deleted_threads_are_missing(
    upstream: FakeUpstream, mirror_runs: Callable[..., list[Run]], alice: User
) -> None:
    runs = mirror_runs(make_run(thread_id="thread_0"), make_run(thread_id="thread_1"))
    upstream.runs.clear()
    assert [push(run, alice).status for run in runs] == [EditStatus.REJECTED, EditStatus.REJECTED]
    assert not connections.is_held("default")


def test_404_for_everything_holds_and_retires(upstream: FakeUpstream, runs: list[Run], alice: User) -> None:
    upstream.override(lambda request: Response(404, "Not Found"))
    edit = push(runs[0], alice)
    assert (edit.status, connections.state("default").hold) == (EditStatus.PENDING, Hold.NOT_FOUND)
    ConnectionState.objects.update(next_probe_at=timezone.now())
    probes.probe_held()
    assert connections.state("default").hold == Hold.RETIRED


def test_deleted_runs_of_thread_take_two_probes(
    upstream: FakeUpstream, mirror_runs: Callable[..., list[Run]], alice: User
) -> None:
    deleted = mirror_runs(*(make_run(thread_id="thread_0") for _ in range(32)), make_run(thread_id="thread_1"))[:32]
    for run in deleted:
        record(run, alice)
        del upstream.runs[run.upstream_id]
    upstream.log.clear()
    process_due()
    assert set(Edit.objects.values_list("status", flat=True)) == {EditStatus.REJECTED}
    assert len(upstream.requests()) <= 34
    assert not connections.is_held("default")
