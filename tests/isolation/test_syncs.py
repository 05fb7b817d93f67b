"""A thread that cannot be read or stored ends with its reason, and the pass goes on with the others."""

import threading
import time
import uuid
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from pytest_django import Settings

from runsadmin.models import Run, Sync, Thread
from runsadmin.services import runs, syncs, threads
from runsadmin.services.syncs import passes
from tests.conftest import Connect
from tests.isolation.conftest import Lines, Refuse
from tests.sandbox_client import Sandbox, make_run

pytestmark = pytest.mark.django_db(transaction=True)

NAMES = [f"thread_{number}" for number in range(5)]
BAD = NAMES[2]


@pytest.fixture
def started(sandbox: Sandbox, alice: User) -> Sync:
    """A full sync of five threads with three runs each. The third thread is the bad one."""
    sandbox.put_runs([make_run(thread_id=name, id=f"run_{name}_{n}") for name in NAMES for n in range(3)])
    threads.track(connection="default", thread_ids=NAMES, actor=alice)
    return syncs.start(connection="default", kind=Sync.Kind.FULL, actor=alice)


def run(sync: Sync, *, seconds: float = 60, splits_off: bool = False) -> Sync:
    return syncs.run(sync, until=time.monotonic() + seconds, splits_off=splits_off)


def mirrored() -> dict[str, int]:
    return {name: Run.objects.filter(thread__upstream_id=name).count() for name in NAMES}


ERRORS = [
    RecursionError("too deep"), MemoryError(), UnicodeEncodeError("utf-8", "\ud800", 0, 1, "no"),
    OverflowError("int too large"), KeyError("a bug"), AssertionError("a\0b"),
]  # fmt: skip


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_any_error_ends_only_its_thread(
    error: Exception, started: Sync, monkeypatch: pytest.MonkeyPatch, log_lines: Lines
) -> None:
    compare = runs.compare

    def fail(observations: object, **options: bool) -> object:
        pairs = list(observations)  # type: ignore[call-overload]
        if any(thread.upstream_id == BAD for thread, _ in pairs):
            raise error
        return compare(pairs, **options)

    monkeypatch.setattr(runs, "compare", fail)
    done = run(started)
    assert (done.status, done.threads_done, done.errors_count) == (Sync.Status.COMPLETED_WITH_ERRORS, 5, 1)
    (recorded,) = done.errors.select_related("thread")
    assert recorded.thread is not None
    assert recorded.thread.upstream_id == BAD
    assert type(error).__name__ in recorded.message
    assert mirrored() == dict.fromkeys(NAMES, 3) | {BAD: 0}
    assert sum("could not read the thread" in line for line in log_lines()) == 1
    assert len(log_lines()) < 50


def test_refused_run_ends_alone(started: Sync, refuse: Refuse, log_lines: Lines) -> None:
    refuse("runsadmin_run", f"NEW.upstream_id = 'run_{BAD}_1'")
    done = run(started)
    assert (done.status, done.threads_done) == (Sync.Status.COMPLETED_WITH_ERRORS, 5)
    assert (done.runs_created, mirrored()) == (14, dict.fromkeys(NAMES, 3) | {BAD: 2})
    (recorded,) = done.errors.all()
    assert recorded.run_id == f"run_{BAD}_1"
    assert "refused" in recorded.message
    assert len(log_lines()) < 50


def test_refused_thread_state_ends_alone(started: Sync, refuse: Refuse) -> None:
    refuse("runsadmin_thread", f"NEW.upstream_id = '{BAD}'", "UPDATE")
    done = run(started)
    assert (done.status, mirrored()) == (Sync.Status.COMPLETED_WITH_ERRORS, dict.fromkeys(NAMES, 3))
    assert [error.thread and error.thread.upstream_id for error in done.errors.all()] == [BAD]
    assert Thread.objects.exclude(fully_checked_at=None).count() == 4


def test_text_of_any_length_is_indexed(started: Sync, sandbox: Sandbox) -> None:
    """PostgreSQL refuses index rows over 2,704 bytes. These texts cannot be compressed."""
    texts = ["".join(chr(0x4E00 + (seed * n * n + n) % 20000) for n in range(600)) for seed in (7, 11)]
    sandbox.put_runs([make_run(thread_id=BAD, id="run_long", metadata={texts[0]: texts[1]}, model=texts[1])])
    assert run(started).status == Sync.Status.COMPLETED
    assert Run.objects.get(upstream_id="run_long").metadata == {texts[0]: texts[1]}


def test_error_outside_of_threads_ends_the_pass(started: Sync, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(passes, "_next_thread", fail)
    done = run(started)
    assert (done.status, done.claim_token) == (Sync.Status.FAILED, None)
    assert "KeyError: 'a bug'" in done.detail
    assert syncs.claim_waiting() == []


def test_thread_that_kills_processes_is_left_out(started: Sync) -> None:
    died = {"claim_token": uuid.uuid4(), "claimed_until": timezone.now() - timedelta(seconds=1)}
    bad = Thread.objects.get(upstream_id=BAD)
    before = Thread.objects.filter(pk__lt=bad.pk).order_by("-pk")[0]
    Sync.objects.update(status="running", last_thread=before.pk, attempts=2, **died)
    assert run(started, seconds=0).errors_count == 0  # This process, the third, has survived.

    Sync.objects.update(last_thread=before.pk, attempts=3, cursor="", reading="", **died)
    done = run(started)
    (recorded,) = done.errors.select_related("thread")
    assert recorded.thread == bad
    assert "3 processes died" in recorded.message
    assert (done.status, done.attempts) == (Sync.Status.COMPLETED_WITH_ERRORS, 0)
    assert mirrored()[NAMES[4]] == 3


def test_hanging_thread_costs_only_its_timeouts(started: Sync, sandbox: Sandbox, connect: Connect) -> None:
    connect(READ_TIMEOUT=0.3)
    sandbox.fault("hang", path=f"/{BAD}/", times=None)
    done = run(started)
    assert [error.thread and error.thread.upstream_id for error in done.errors.all()] == [BAD]
    assert mirrored() == dict.fromkeys(NAMES, 3) | {BAD: 0}


def test_slow_thread_gets_a_sync_of_its_own(
    started: Sync, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    """Its pages never end. The pass goes on without it, and its own sync ends with an error at the limit."""
    settings.RUNSADMIN_MAX_RUNS_PER_THREAD = 450
    monkeypatch.setattr(passes, "LONG", timedelta(0))
    sandbox.fault("endless", path=f"/{BAD}/runs$", times=None)
    bad = Thread.objects.get(upstream_id=BAD)
    while Sync.objects.get(pk=started.pk).last_thread < bad.pk:
        run(started, seconds=0, splits_off=True)
    own = Sync.objects.get(thread=bad)
    assert (own.status, own.kind, own.actor) == (Sync.Status.QUEUED, started.kind, started.actor)

    done = run(started, splits_off=True)
    assert (done.status, done.threads_done) == (Sync.Status.COMPLETED, 5)
    assert mirrored()[NAMES[3]] == mirrored()[NAMES[4]] == 3
    assert mirrored()[BAD] < 450

    own = run(own, splits_off=True)
    assert own.status == Sync.Status.COMPLETED_WITH_ERRORS
    (recorded,) = own.errors.all()
    assert "more than 450 runs" in recorded.message
    assert 450 <= mirrored()[BAD] < 550


def test_stopping_worker_counts_as_no_death(started: Sync) -> None:
    stopping = threading.Event()
    stopping.set()
    for _ in range(20):
        started = syncs.run(started, until=time.monotonic() + 60, stopping=stopping)
    assert (started.status, started.attempts) == (Sync.Status.COMPLETED, 0)
