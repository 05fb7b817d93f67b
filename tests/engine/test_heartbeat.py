"""Which workers count as alive, and whose tasks are requeued."""

from datetime import timedelta
from typing import Any

import pytest
from django.tasks import TaskResultStatus
from django.utils import timezone
from django_tasks_db.models import DBTaskResult

from runsadmin.engine import heartbeat
from runsadmin.models.worker import Worker
from tests.engine import jobs

pytestmark = pytest.mark.django_db
TEN_SECONDS = timedelta(seconds=10)


def running_task(*workers: str) -> DBTaskResult[..., Any]:
    task = DBTaskResult.objects.get(pk=jobs.tick.enqueue().id)
    for worker in workers:
        task.claim(f"{worker}/0")
    return task


def silent_for(worker: str, seconds: float) -> None:
    Worker.objects.update_or_create(pk=worker, defaults={"seen_at": timezone.now() - timedelta(seconds=seconds)})


def test_beat_age_is_the_newest() -> None:
    assert heartbeat.beat_age() is None
    silent_for("old", 60)
    silent_for("young", 5)
    age = heartbeat.beat_age()
    assert age is not None
    assert 4 < age < 10


def test_first_or_late_beat_returns_false() -> None:
    assert not heartbeat.beat("worker", dead_after=TEN_SECONDS)
    assert heartbeat.beat("worker", dead_after=TEN_SECONDS)
    silent_for("worker", 11)
    assert not heartbeat.beat("worker", dead_after=TEN_SECONDS)
    assert heartbeat.beat("worker", dead_after=TEN_SECONDS)


def test_tasks_of_dead_workers_are_requeued() -> None:
    silent_for("dead", 11)
    silent_for("living", 9)
    of_the_dead, of_the_living = running_task("living", "dead"), running_task("dead", "living")
    of_nobody_known = running_task("forgotten")
    heartbeat.requeue_dead(dead_after=TEN_SECONDS)
    assert [worker.pk for worker in Worker.objects.all()] == ["living"]
    for task in (of_the_dead, of_nobody_known):
        task.refresh_from_db()
        assert (task.status, task.started_at) == (TaskResultStatus.READY, None)
    of_the_living.refresh_from_db()
    assert of_the_living.status == TaskResultStatus.RUNNING


def test_requeue_leaves_a_reclaimed_task(monkeypatch: pytest.MonkeyPatch) -> None:
    task = running_task("dead")
    seen = list(DBTaskResult.objects.running())
    task.claim("quicker/0")
    heartbeat._requeue(seen)
    task.refresh_from_db()
    assert task.status == TaskResultStatus.RUNNING


def test_lane_releases_only_its_own_tasks() -> None:
    mine, theirs = running_task("me"), running_task("them")
    heartbeat.release("me/0")
    mine.refresh_from_db()
    theirs.refresh_from_db()
    assert (mine.status, theirs.status) == (TaskResultStatus.READY, TaskResultStatus.RUNNING)
