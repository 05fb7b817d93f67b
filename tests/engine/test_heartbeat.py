"""Who counts as alive, and whose tasks are requeued."""

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


def test_the_age_of_the_freshest_beat_is_told_and_none_when_there_is_no_worker() -> None:
    assert heartbeat.beat_age() is None
    silent_for("old", 60)
    silent_for("young", 5)
    age = heartbeat.beat_age()
    assert age is not None
    assert 4 < age < 10


def test_a_worker_that_has_just_started_or_was_silent_itself_is_told_so() -> None:
    assert not heartbeat.beat("worker", dead_after=TEN_SECONDS)
    assert heartbeat.beat("worker", dead_after=TEN_SECONDS)
    silent_for("worker", 11)
    assert not heartbeat.beat("worker", dead_after=TEN_SECONDS)
    assert heartbeat.beat("worker", dead_after=TEN_SECONDS)


def test_tasks_of_the_silent_are_requeued_and_those_of_the_living_are_left() -> None:
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


def test_a_task_that_another_claims_while_the_dead_are_buried_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    task = running_task("dead")
    seen = list(DBTaskResult.objects.running())
    task.claim("quicker/0")
    heartbeat._requeue(seen, left=lambda _: True)
    task.refresh_from_db()
    assert task.status == TaskResultStatus.RUNNING


def test_a_lane_gives_back_its_own_tasks_only() -> None:
    mine, theirs = running_task("me"), running_task("them")
    heartbeat.release("me/0")
    mine.refresh_from_db()
    theirs.refresh_from_db()
    assert (mine.status, theirs.status) == (TaskResultStatus.READY, TaskResultStatus.RUNNING)
