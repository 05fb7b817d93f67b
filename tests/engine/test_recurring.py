"""The schedule: each entry enqueues one task per period, and none while its previous task waits or runs."""

import threading
from datetime import timedelta
from itertools import pairwise

import pytest
from django.db import connections
from django.tasks import TaskResultStatus
from django.utils import timezone
from django_tasks_db.models import DBTaskResult

from runsadmin.engine.recurring import Entry, enqueue_due, enqueue_each, prune
from runsadmin.models.worker import Schedule
from tests.engine import jobs
from tests.engine.conftest import StartWorker, TaskLog
from tests.waiting import until

HOURLY = Entry("hourly", jobs.tick, every=timedelta(hours=1))


def finish_all(status: TaskResultStatus = TaskResultStatus.SUCCESSFUL, **ago: float) -> None:
    """Marks all tasks as finished this long ago."""
    DBTaskResult.objects.update(status=status, finished_at=timezone.now() - timedelta(**ago))


def make_due() -> None:
    Schedule.objects.update(due_at=timezone.now() - timedelta(minutes=1))


def test_two_workers_run_each_due_task_once(start_worker: StartWorker, task_log: TaskLog) -> None:
    for _ in range(2):
        start_worker("--beat-every", "0.1", schedule="SCHEDULE")
    until(lambda: task_log.lines.count("tick") >= 3 and task_log.lines.count("slow end") >= 2)
    assert task_log.lines.count("rare tick") == 1
    ticks = DBTaskResult.objects.filter(task_path="tests.engine.jobs.tick").order_by("enqueued_at")
    times = [tick.enqueued_at for tick in ticks]
    assert all(later - earlier > timedelta(seconds=0.9) for earlier, later in pairwise(times))
    # The slow tick is due every 0.3 s and takes 1 s, but is not enqueued while the previous one waits or runs.
    slow = [line for line in task_log.lines if line.startswith("slow")]
    assert all(line == ("slow end" if number % 2 else "slow start") for number, line in enumerate(slow))


@pytest.mark.django_db(transaction=True)
def test_concurrent_checks_enqueue_once() -> None:
    barrier = threading.Barrier(8)

    def check() -> None:
        try:
            barrier.wait()
            enqueue_due([HOURLY])
        finally:
            connections.close_all()

    for expected in (1, 2, 3):
        threads = [threading.Thread(target=check) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert DBTaskResult.objects.count() == expected
        finish_all()
        make_due()


@pytest.mark.django_db
def test_entry_is_due_once_a_period() -> None:
    assert enqueue_due([HOURLY]) == ["hourly"]
    finish_all()
    assert enqueue_due([HOURLY]) == []
    make_due()
    assert enqueue_due([HOURLY]) == ["hourly"]
    assert DBTaskResult.objects.count() == 2


@pytest.mark.django_db
@pytest.mark.parametrize("status", [TaskResultStatus.READY, TaskResultStatus.RUNNING])
def test_entry_waits_for_its_last_task(status: TaskResultStatus) -> None:
    enqueue_due([HOURLY])
    DBTaskResult.objects.update(status=status)
    make_due()
    assert enqueue_due([HOURLY]) == []
    finish_all(TaskResultStatus.FAILED)
    assert enqueue_due([HOURLY]) == ["hourly"]


@pytest.mark.django_db
def test_pruned_task_does_not_stop_its_entry() -> None:
    enqueue_due([HOURLY])
    DBTaskResult.objects.all().delete()
    make_due()
    assert enqueue_due([HOURLY]) == ["hourly"]


@pytest.mark.django_db(transaction=True)
def test_failed_enqueue_leaves_entry_due(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(DBTaskResult.objects, "create", fail)
        with pytest.raises(OSError, match="disk"):
            enqueue_due([HOURLY])
    assert enqueue_due([HOURLY]) == ["hourly"]


@pytest.mark.django_db
def test_shorter_period_applies_at_once() -> None:
    enqueue_due([HOURLY])
    finish_all()
    assert enqueue_due([Entry("hourly", jobs.tick, every=timedelta(minutes=1))]) == ["hourly"]


@pytest.mark.django_db
def test_ended_tasks_are_pruned() -> None:
    kept = []
    for status, ago, keep in (
        (TaskResultStatus.SUCCESSFUL, timedelta(minutes=59), True),
        (TaskResultStatus.SUCCESSFUL, timedelta(minutes=61), False),
        (TaskResultStatus.FAILED, timedelta(days=6), True),
        (TaskResultStatus.FAILED, timedelta(days=8), False),
        (TaskResultStatus.RUNNING, timedelta(days=30), True),
        (TaskResultStatus.READY, timedelta(days=30), True),
    ):
        task = jobs.tick.enqueue()
        DBTaskResult.objects.filter(pk=task.id).update(status=status, finished_at=timezone.now() - ago)
        kept += [task.id] if keep else []
    assert prune.func() == 2
    assert sorted(str(task.pk) for task in DBTaskResult.objects.all()) == sorted(kept)


@pytest.mark.django_db
def test_failing_entry_runs_less_and_less_often() -> None:
    often = Entry("often", jobs.tick, every=timedelta(seconds=2))
    periods = []
    for _ in range(8):
        make_due()
        assert enqueue_due([often]) == ["often"]
        periods.append(round((Schedule.objects.get().due_at - timezone.now()).total_seconds()))
        finish_all(TaskResultStatus.FAILED)
        assert enqueue_due([often]) == []  # A distant due time is not mistaken for a change of the clock.
    assert periods == [2, 4, 8, 16, 32, 60, 60, 60]
    make_due()
    finish_all(TaskResultStatus.SUCCESSFUL)
    assert enqueue_due([often]) == ["often"]
    assert Schedule.objects.get().failures == 0


@pytest.mark.django_db
def test_row_has_at_most_one_waiting_task() -> None:
    assert enqueue_each(jobs.do_nothing, [1, 2]) == 2
    assert enqueue_each(jobs.do_nothing, [1, 2, 3]) == 1
    DBTaskResult.objects.update(status=TaskResultStatus.RUNNING)
    assert enqueue_each(jobs.do_nothing, [1]) == 1
