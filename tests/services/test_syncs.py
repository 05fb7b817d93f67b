"""Syncs of threads, against the sandbox."""

import datetime as dt
import time
import uuid
from collections.abc import Iterable

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from runsadmin.errors import InvalidTransition, NotAllowed, UnknownConnection
from runsadmin.models import ConnectionState, Run, Sync, Thread
from runsadmin.services import connections, probes, syncs, threads
from tests.conftest import Connect
from tests.sandbox_client import Json, Sandbox, make_run

pytestmark = pytest.mark.django_db(transaction=True)

FULL, INCREMENTAL = Sync.Kind.FULL, Sync.Kind.INCREMENTAL


def put_runs(sandbox: Sandbox, count: int, name: str = "thread_a", **fields: object) -> list[Json]:
    """Puts runs of one thread upstream. Returns them, newest first."""
    runs = [make_run(thread_id=name, created_at=1_700_000_000 + number, **fields) for number in range(count)]
    sandbox.put_runs(runs)
    return runs[::-1]


def track(names: Iterable[str], actor: User) -> None:
    threads.track(connection="default", thread_ids=names, actor=actor)


def sync(kind: Sync.Kind = FULL, thread: Thread | None = None) -> Sync:
    started = syncs.start(connection="default", kind=kind, actor=None, thread=thread)
    return syncs.run(started, until=time.monotonic() + 60)


def versions() -> dict[str, int]:
    return dict(Run.objects.values_list("upstream_id", "version"))


def test_second_sync_writes_nothing(sandbox: Sandbox, alice: User) -> None:
    sandbox.seed(threads=8, runs=400)
    track(threads.listed_upstream(connection="default"), alice)
    first = sync()
    runs = sandbox.runs()
    assert (first.status, first.runs_created, first.threads_done) == (Sync.Status.COMPLETED, len(runs), 8)
    assert {run.upstream_id: run.data for run in Run.objects.all()} == runs

    before = versions()
    second = sync()
    assert (second.runs_seen, second.runs_created, second.runs_updated) == (len(runs), 0, 0)
    assert versions() == before


def test_full_sync_writes_only_changed_runs(sandbox: Sandbox, alice: User) -> None:
    runs = put_runs(sandbox, 260)
    track(["thread_a"], alice)
    sync()
    before = versions()
    ended, changed = runs[250]["id"], runs[3]["id"]  # These runs are on the third page and on the first.
    sandbox.set_metadata(changed, {"team": "red"})
    sandbox.change_run(ended, status="failed", last_error={"code": "server_error", "message": "."})

    assert sync().runs_updated == 2
    after = versions()
    assert {run_id for run_id in after if after[run_id] != before[run_id]} == {ended, changed}
    assert Run.objects.get(upstream_id=ended).error_code == "server_error"


def test_incremental_sync_stops_at_watermark(sandbox: Sandbox, alice: User) -> None:
    runs = put_runs(sandbox, 250)
    sandbox.change_run(runs[-1]["id"], status="in_progress")
    track(["thread_a"], alice)
    sync(INCREMENTAL)
    sandbox.change_run(runs[-1]["id"], status="completed")
    new = make_run(thread_id="thread_a", created_at=1_800_000_000)
    sandbox.put_runs([new])
    sandbox.clear_log()

    second = sync(INCREMENTAL)
    assert (second.runs_created, second.runs_updated) == (1, 1)
    assert len(sandbox.log()) == 2  # One page of the list, and one fetch of a run.
    assert Run.objects.get(upstream_id=runs[-1]["id"]).status == "completed"
    assert Thread.objects.get().watermark == new["id"]


def test_missing_run_is_marked_and_kept(sandbox: Sandbox, alice: User) -> None:
    runs = put_runs(sandbox, 5)
    track(["thread_a"], alice)
    sync()
    sandbox.delete_run(runs[2]["id"])
    sync()
    assert [run.upstream_id for run in Run.objects.exclude(missing_since=None)] == [runs[2]["id"]]
    assert Run.objects.count() == 5


@pytest.fixture
def one_of_two_threads_deleted(sandbox: Sandbox, alice: User) -> None:
    """Two threads with three runs each have been synced. Then thread_a was deleted upstream."""
    for thread_id in ("thread_a", "thread_b"):
        put_runs(sandbox, 3, thread_id)
    track(["thread_a", "thread_b"], alice)
    sync()
    sandbox.delete_thread("thread_a")


def test_missing_thread_does_not_stop_the_sync(one_of_two_threads_deleted: None) -> None:
    second = sync()
    assert (second.status, second.errors_count) == (Sync.Status.COMPLETED_WITH_ERRORS, 1)
    assert second.errors.get().thread == Thread.objects.get(upstream_id="thread_a")
    assert Thread.objects.get(upstream_id="thread_a").missing_since is not None
    assert second.runs_seen == 3


def test_unexplained_404_marks_no_thread(one_of_two_threads_deleted: None, sandbox: Sandbox) -> None:
    sandbox.fault("status", method="GET", path="/threads/thread_a", status=404, body={}, times=None)
    sandbox.fault("status", method="GET", path="/threads/thread_b/runs/", status=500)
    second = sync()
    assert second.status == Sync.Status.COMPLETED_WITH_ERRORS
    assert not Thread.objects.filter(missing_since__isnull=False).exists()


def test_sync_that_reads_nothing_fails(sandbox: Sandbox, alice: User) -> None:
    track(["thread_unknown"], alice)
    assert sync().status == Sync.Status.FAILED


def test_temporary_fault_is_not_an_error(sandbox: Sandbox, alice: User) -> None:
    put_runs(sandbox, 3)
    track(["thread_a"], alice)
    sandbox.fault("status", method="GET", status=500)
    assert sync().status == Sync.Status.COMPLETED


def test_invalid_row_does_not_stop_the_sync(sandbox: Sandbox, alice: User) -> None:
    good = put_runs(sandbox, 3)
    track(["thread_a"], alice)
    body = {"object": "list", "data": [{"id": "run_bad", "thread_id": "thread_z"}, 5, *good], "has_more": False}
    sandbox.fault("status", method="GET", status=200, body=body)
    done = sync()
    assert (done.status, done.errors_count, done.runs_created) == (Sync.Status.COMPLETED_WITH_ERRORS, 2, 3)


def test_sync_waits_for_a_held_connection(sandbox: Sandbox, alice: User, connect: Connect) -> None:
    put_runs(sandbox, 3)
    track(["thread_a"], alice)
    connect(API_KEY="wrong")
    waiting = sync()
    assert waiting.status == Sync.Status.RUNNING
    assert "Waiting for the connection" in waiting.detail
    assert connections.held().get().hold == ConnectionState.Hold.CREDENTIALS
    assert syncs.claim_waiting() == []

    connect(API_KEY=sandbox.key)
    ConnectionState.objects.update(next_probe_at=timezone.now())
    probes.probe_held()
    assert syncs.claim_waiting() == [waiting.pk]
    assert syncs.run(waiting, until=time.monotonic() + 60).status == Sync.Status.COMPLETED


def test_sync_resumes_after_a_back_off(sandbox: Sandbox, alice: User) -> None:
    put_runs(sandbox, 3)
    track(["thread_a"], alice)
    sandbox.fault("status", method="GET", status=429, headers={"Retry-After": "60"})
    waiting = sync()
    assert (waiting.status, waiting.errors_count) == (Sync.Status.RUNNING, 0)
    assert syncs.claim_waiting() == []
    ConnectionState.objects.update(not_before=None)
    Sync.objects.update(claimed_until=timezone.now())
    assert syncs.run(waiting, until=time.monotonic() + 60).status == Sync.Status.COMPLETED


def test_next_task_resumes_the_sync(sandbox: Sandbox, alice: User) -> None:
    names = ["thread_a", "thread_b", "thread_c"]
    for name in names:
        put_runs(sandbox, 2, name)
    track(names, alice)
    started = syncs.start(connection="default", kind=FULL, actor=alice)
    tasks = [syncs.run(started, until=0) for _ in range(6)]
    assert [task.pages for task in tasks] == [1, 2, 3, 4, 5, 6]  # The second page of each thread is empty.
    assert [task.threads_done for task in tasks] == [0, 1, 1, 2, 2, 3]
    assert syncs.run(started, until=0).status == Sync.Status.COMPLETED
    assert len(sandbox.gets()) == 6


def test_interrupted_sync_resumes_at_its_page(sandbox: Sandbox, alice: User) -> None:
    runs = put_runs(sandbox, 250)
    track(["thread_a"], alice)
    started = syncs.start(connection="default", kind=FULL, actor=alice)
    Sync.objects.update(
        status=Sync.Status.RUNNING,
        claim_token=uuid.uuid4(),
        claimed_until=timezone.now() - dt.timedelta(seconds=1),
        cursor=runs[99]["id"],
        first_run=runs[0]["id"],
    )
    done = syncs.run(started, until=time.monotonic() + 60)
    assert (done.status, done.runs_created, done.pages) == (Sync.Status.COMPLETED, 150, 2)
    assert Thread.objects.get().watermark == runs[0]["id"]


def test_two_processes_never_share_a_sync(sandbox: Sandbox, alice: User) -> None:
    put_runs(sandbox, 2)
    track(["thread_a"], alice)
    started = syncs.start(connection="default", kind=FULL, actor=alice)
    Sync.objects.update(
        status=Sync.Status.RUNNING, claim_token=uuid.uuid4(), claimed_until=timezone.now() + dt.timedelta(minutes=1)
    )
    assert syncs.run(started, until=time.monotonic() + 60).runs_seen == 0
    assert sandbox.log() == []


def test_one_sync_of_a_kind_at_a_time(sandbox: Sandbox, alice: User) -> None:
    sync_of_all_threads = syncs.start(connection="default", kind=FULL, actor=alice)
    assert syncs.start(connection="default", kind=FULL, actor=alice) == sync_of_all_threads
    thread = Thread.objects.create(connection="default", upstream_id="thread_a")
    sync_of_thread = syncs.start(connection="default", kind=FULL, actor=alice, thread=thread)
    assert sync_of_thread != sync_of_all_threads
    assert syncs.start(connection="default", kind=FULL, actor=alice, thread=thread) == sync_of_thread


def test_sync_is_paused_resumed_and_cancelled(sandbox: Sandbox, alice: User) -> None:
    put_runs(sandbox, 2)
    track(["thread_a"], alice)
    started = syncs.start(connection="default", kind=FULL, actor=alice)
    with pytest.raises(InvalidTransition, match="queued"):
        syncs.pause(sync=started, actor=alice)
    Sync.objects.update(status=Sync.Status.RUNNING)
    assert syncs.pause(sync=started, actor=alice).status == Sync.Status.PAUSED
    assert syncs.run(started, until=time.monotonic() + 60).status == Sync.Status.PAUSED
    assert syncs.resume(sync=started, actor=alice).status == Sync.Status.RUNNING
    assert syncs.cancel(sync=started, actor=alice).status == Sync.Status.CANCELLED
    with pytest.raises(InvalidTransition):
        syncs.resume(sync=started, actor=alice)
    assert sandbox.log() == []


def test_waiting_sync_is_not_enqueued_twice(sandbox: Sandbox, alice: User) -> None:
    started = syncs.start(connection="default", kind=FULL, actor=alice)
    assert syncs.claim_waiting() == [started.pk]
    assert syncs.claim_waiting() == []


def test_schedule_starts_full_then_incremental(sandbox: Sandbox, alice: User) -> None:
    assert syncs.start_due() == []  # Nothing is tracked.
    put_runs(sandbox, 2)
    track(["thread_a"], alice)
    (first,) = syncs.start_due()
    assert first.kind == FULL
    assert syncs.start_due() == []
    syncs.run(first, until=time.monotonic() + 60)
    Sync.objects.update(created_at=timezone.now() - dt.timedelta(hours=1))
    (second,) = syncs.start_due()
    assert second.kind == INCREMENTAL


def test_viewer_cannot_sync(sandbox: Sandbox, carol: User) -> None:
    with pytest.raises(NotAllowed):
        syncs.start(connection="default", kind=FULL, actor=carol)
    assert not Sync.objects.exists()


def test_unknown_connection_lists_known_ones(sandbox: Sandbox, alice: User) -> None:
    with pytest.raises(UnknownConnection, match="default"):
        syncs.start(connection="nowhere", kind=FULL, actor=alice)


def test_tracking_reports_every_id(sandbox: Sandbox, alice: User, carol: User) -> None:
    track(["thread_a"], alice)
    tracked = threads.track(
        connection="default", thread_ids=["thread_a", "thread_b", "../x", "", "thread_b"], actor=alice
    )
    assert (tracked.added, tracked.already, tracked.invalid) == (("thread_b",), ("thread_a",), ("../x", ""))
    with pytest.raises(NotAllowed):
        track(["thread_c"], carol)


def test_untracked_thread_keeps_its_runs(sandbox: Sandbox, alice: User) -> None:
    put_runs(sandbox, 2)
    track(["thread_a"], alice)
    sync()
    threads.untrack(thread=Thread.objects.get(), actor=alice)
    assert sync().runs_seen == 0
    assert Run.objects.count() == 2
    track(["thread_a"], alice)
    assert sync().runs_seen == 2
