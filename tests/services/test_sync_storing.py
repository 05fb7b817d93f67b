"""A sync stores several pages in one transaction, together with its position."""

import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext

from runsadmin.models import Run, Sync, Thread
from runsadmin.services import syncs, threads
from runsadmin.services.syncs import claimed
from tests.sandbox_client import Sandbox, make_run

pytestmark = pytest.mark.django_db(transaction=True)

THREADS, RUNS_PER_THREAD = 6, 3


@pytest.fixture
def started(sandbox: Sandbox, alice: User, monkeypatch: pytest.MonkeyPatch) -> Sync:
    """A full sync of six threads with three runs each. The time limit for storing pages is never reached."""
    monkeypatch.setattr(claimed, "MAX_PENDING_SECONDS", 600.0)
    names = [f"thread_{number}" for number in range(THREADS)]
    sandbox.put_runs([make_run(thread_id=name) for name in names for _ in range(RUNS_PER_THREAD)])
    threads.track(connection="default", thread_ids=names, actor=alice)
    return syncs.start(connection="default", kind=Sync.Kind.FULL, actor=alice)


class AtCheck(threading.Event):
    """An event that is never set. Calls a function at the third check, when the sync has read at least one thread."""

    def __init__(self, call: Callable[[], object]) -> None:
        super().__init__()
        self.call = call
        self.checks = 0

    def is_set(self) -> bool:
        self.checks += 1
        if self.checks == 3:
            self.call()
        return False


def run(sync: Sync, stopping: threading.Event | None = None) -> Sync:
    return syncs.run(sync, until=time.monotonic() + 600, stopping=stopping)


def transactions_with_runs(queries: CaptureQueriesContext) -> int:
    """The number of transactions that stored runs. Each of them also stores the number of created runs."""
    return sum('"runs_created" =' in query["sql"] for query in queries)


def test_threads_share_a_transaction(started: Sync) -> None:
    with CaptureQueriesContext(connection) as queries:
        done = run(started)
    assert (done.status, done.runs_created, done.threads_done) == (Sync.Status.COMPLETED, 18, THREADS)
    assert transactions_with_runs(queries) == 1
    assert Thread.objects.exclude(fully_checked_at=None).exclude(watermark="").count() == THREADS


def test_pending_runs_are_limited(started: Sync, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claimed, "MAX_PENDING_RUNS", 2 * RUNS_PER_THREAD)
    with CaptureQueriesContext(connection) as queries:
        assert run(started).runs_created == 18
    assert transactions_with_runs(queries) == 3


def test_pages_are_stored_after_a_second(started: Sync, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claimed, "MAX_PENDING_SECONDS", 0.0)
    with CaptureQueriesContext(connection) as queries:
        assert run(started).runs_created == 18
    assert transactions_with_runs(queries) == THREADS


def test_pages_read_before_a_pause_count(started: Sync, sandbox: Sandbox, alice: User) -> None:
    paused = run(started, AtCheck(lambda: syncs.pause(sync=started, actor=alice)))
    assert (paused.status, paused.runs_created) == (Sync.Status.PAUSED, Run.objects.count())
    assert paused.threads_done > 0
    read = len(sandbox.gets())
    syncs.resume(sync=started, actor=alice)
    done = run(started)
    assert (done.status, done.runs_created, done.runs_seen) == (Sync.Status.COMPLETED, 18, 18)
    assert read + len(sandbox.gets()) == 2 * done.pages == 4 * THREADS, "A page was read twice."


def test_lost_claim_moves_no_position(started: Sync) -> None:
    """Once another process works on the sync, this process stores the runs that it has read, but no position."""
    other = uuid.uuid4()
    lost = run(started, AtCheck(lambda: Sync.objects.update(claim_token=other)))
    assert (lost.claim_token, lost.last_thread, lost.pages, lost.runs_created) == (other, 0, 0, 0)
    assert Run.objects.count() == 18
    Sync.objects.update(claim_token=None, claimed_until=None)
    done = run(started)
    assert (done.status, done.threads_done, done.runs_seen) == (Sync.Status.COMPLETED, THREADS, 18)


def test_failed_transaction_stores_nothing(started: Sync) -> None:
    """While the database fails, neither runs nor the position are stored. The next call reads the pages again."""

    def fail(execute: Any, sql: str, *rest: Any) -> Any:
        if sql.startswith('UPDATE "runsadmin_thread"'):
            raise OperationalError("the disk is full")
        return execute(sql, *rest)

    with connection.execute_wrapper(fail), pytest.raises(OperationalError):
        run(started)
    stored = Sync.objects.get()
    assert (stored.last_thread, stored.cursor, stored.runs_created, Run.objects.count()) == (0, "", 0, 0)
    assert run(started).runs_created == 18
