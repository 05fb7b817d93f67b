"""Which workers count as alive, and whose tasks are requeued."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db.models import F
from django.tasks import TaskResultStatus
from django.utils import timezone
from django_tasks_db.models import DBTaskResult

from runsadmin.engine import attempts, heartbeat
from runsadmin.errors import InvalidTransition
from runsadmin.models.worker import Worker
from tests.engine import jobs

pytestmark = pytest.mark.django_db
TEN_SECONDS = timedelta(seconds=10)


def running_task(*workers: str) -> DBTaskResult[..., Any]:
    """A running task that each worker claimed in turn: it belongs to the last one."""
    task = DBTaskResult.objects.get(pk=jobs.tick.enqueue().id)
    for worker in workers:
        task.claim(f"{worker}/0")
    return task


def set_last_beat(worker: str, *, seconds_ago: float) -> None:
    Worker.objects.update_or_create(pk=worker, defaults={"seen_at": timezone.now() - timedelta(seconds=seconds_ago)})


def test_beat_age_is_that_of_the_newest_beat() -> None:
    assert heartbeat.beat_age() is None
    set_last_beat("old", seconds_ago=60)
    set_last_beat("young", seconds_ago=5)
    age = heartbeat.beat_age()
    assert age is not None
    assert 4 < age < 10


def test_first_or_late_beat_returns_false() -> None:
    assert not heartbeat.beat("worker", dead_after=TEN_SECONDS)
    assert heartbeat.beat("worker", dead_after=TEN_SECONDS)
    set_last_beat("worker", seconds_ago=11)
    assert not heartbeat.beat("worker", dead_after=TEN_SECONDS)
    assert heartbeat.beat("worker", dead_after=TEN_SECONDS)


def test_tasks_of_dead_workers_are_requeued() -> None:
    set_last_beat("dead", seconds_ago=11)
    set_last_beat("living", seconds_ago=9)
    dead_task, live_task = running_task("living", "dead"), running_task("dead", "living")
    orphaned_task = running_task("forgotten")
    heartbeat.requeue_dead(dead_after=TEN_SECONDS)
    assert [worker.pk for worker in Worker.objects.all()] == ["living"]
    for task in (dead_task, orphaned_task):
        task.refresh_from_db()
        assert (task.status, task.started_at) == (TaskResultStatus.READY, None)
    live_task.refresh_from_db()
    assert live_task.status == TaskResultStatus.RUNNING


def test_worker_is_not_alive_until_the_clock_has_caught_up() -> None:
    set_last_beat("dead", seconds_ago=-3600)
    set_last_beat("living", seconds_ago=-3600)
    task = running_task("dead")
    heartbeat.requeue_dead(dead_after=TEN_SECONDS)
    assert Worker.objects.count() == 2
    heartbeat.beat("living", dead_after=TEN_SECONDS)
    Worker.objects.filter(pk="dead").update(seen_at=F("seen_at") - timedelta(seconds=11))
    heartbeat.requeue_dead(dead_after=TEN_SECONDS)
    assert [worker.pk for worker in Worker.objects.all()] == ["living"]
    task.refresh_from_db()
    assert task.status == TaskResultStatus.READY


def test_delayed_tasks_start_after_the_clock_was_set_back() -> None:
    tasks = [running_task(), running_task(), running_task()]
    for task, pause in zip(tasks, (timedelta(hours=1), timedelta(seconds=10), None), strict=True):
        if pause:
            DBTaskResult.objects.filter(pk=task.pk).update(run_after=timezone.now() + pause)
    assert attempts.start_delayed() == 1
    assert set(DBTaskResult.objects.ready()) == {tasks[0], tasks[2]}


def test_reclaimed_task_is_not_requeued() -> None:
    task = running_task("dead")
    running = list(DBTaskResult.objects.running())
    task.claim("other/0")
    attempts.requeue(running)
    task.refresh_from_db()
    assert task.status == TaskResultStatus.RUNNING


def test_lane_releases_only_its_own_tasks() -> None:
    mine, theirs = running_task("me"), running_task("them")
    heartbeat.release("me/0")
    mine.refresh_from_db()
    theirs.refresh_from_db()
    assert (mine.status, theirs.status) == (TaskResultStatus.READY, TaskResultStatus.RUNNING)


def test_third_lost_attempt_ends_the_task() -> None:
    task = running_task("first")
    for worker in ("second", "third"):
        attempts.requeue([task])
        task.refresh_from_db()
        assert task.status == TaskResultStatus.READY
        task.claim(f"{worker}/0")
    attempts.requeue([task])
    task.refresh_from_db()
    assert task.status == TaskResultStatus.FAILED
    assert "left running 3 times" in task.traceback
    attempts.requeue([task])
    assert DBTaskResult.objects.get().status == TaskResultStatus.FAILED


def test_second_lost_attempt_is_followed_by_a_pause() -> None:
    task = running_task("first", "second")
    attempts.requeue([task])
    assert not DBTaskResult.objects.ready().exists()
    DBTaskResult.objects.update(run_after=timezone.now())
    assert DBTaskResult.objects.ready().exists()


def test_failed_task_is_retried_as_new(alice: User) -> None:
    task = running_task("first", "second", "third")
    with pytest.raises(InvalidTransition, match="failed"):
        attempts.retry(task=task, actor=alice)
    attempts.requeue([task])
    attempts.retry(task=task, actor=alice)
    task.refresh_from_db()
    assert (task.status, task.worker_ids, task.finished_at) == (TaskResultStatus.READY, [], None)
    assert DBTaskResult.objects.ready().exists()
