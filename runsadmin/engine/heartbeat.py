"""Tracks which workers are alive, and requeues the tasks of dead ones.

A worker is alive while its row is fresh by the database's clock. Live workers delete the rows of dead ones and requeue
the tasks that those were running.
"""

import logging
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.db.models import DurationField, ExpressionWrapper, F
from django.db.models.functions import Now
from django.tasks import TaskResultStatus
from django_tasks_db.models import DBTaskResult

from runsadmin.models.worker import Worker

logger = logging.getLogger(__name__)


def beat(worker_id: str, *, dead_after: timedelta) -> bool:
    """Records that the worker is alive. Returns whether its row was fresh without interruption.

    If not, it has just started or counted as dead. The database may have been unreachable, so that the others only seem
    dead: the worker declares none of them dead before its next beat.
    """
    if Worker.objects.filter(pk=worker_id, seen_at__gt=Now() - dead_after).update(seen_at=Now()):
        return True
    Worker.objects.update_or_create(pk=worker_id, defaults={"seen_at": Now()})
    return False


def requeue_dead(*, dead_after: timedelta) -> None:
    """Deletes the rows of dead workers, and requeues every running task without a live worker."""
    Worker.objects.filter(seen_at__lte=Now() - dead_after).delete()
    # Read tasks before workers: a worker has its row before its first claim, so no live runner of a task is missed.
    running = list(DBTaskResult.objects.running())
    living = set(Worker.objects.values_list("pk", flat=True))
    _requeue(task for task in running if task.worker_ids[-1].partition("/")[0] not in living)


def release(lane_id: str) -> None:
    """Requeues the tasks that a lane left running. Only that lane may call this, and only while it runs no task."""
    _requeue(task for task in list(DBTaskResult.objects.running()) if task.worker_ids[-1] == lane_id)


def beat_age() -> float | None:
    """Seconds since the freshest beat of any worker; None when there is no worker."""
    age = ExpressionWrapper(Now() - F("seen_at"), output_field=DurationField())
    freshest = Worker.objects.order_by("-seen_at").values_list(age, flat=True).first()
    return None if freshest is None else freshest.total_seconds()


def _requeue(tasks: Iterable[DBTaskResult[..., Any]]) -> None:
    for task in tasks:
        # The claim is part of the condition: the task may have ended or been claimed by another worker meanwhile.
        claim = DBTaskResult.objects.filter(pk=task.pk, status=TaskResultStatus.RUNNING, worker_ids=task.worker_ids)
        if claim.update(status=TaskResultStatus.READY, started_at=None):
            logger.warning("Task id=%s was left running by worker %s: requeued", task.pk, task.worker_ids[-1])
