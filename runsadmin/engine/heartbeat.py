"""Tracks which workers are alive, and requeues the tasks of dead ones.

A worker is alive while its row is fresh by the database's clock. Live workers delete the rows of dead ones and requeue
the tasks that those were running.
"""

from datetime import timedelta

from django.db.models import DurationField, ExpressionWrapper, F
from django.db.models.functions import Now
from django_tasks_db.models import DBTaskResult

from runsadmin.engine import attempts
from runsadmin.models.worker import Worker


def beat(worker_id: str, *, dead_after: timedelta) -> bool:
    """Records that the worker is alive. Returns whether it already counted as alive.

    If not, it has just started, or its last beat was too long ago. In the latter case the database may have been
    unreachable for all workers, so the caller must not declare others dead before its next beat.
    """
    if Worker.objects.filter(pk=worker_id, seen_at__gt=Now() - dead_after).update(seen_at=Now()):
        return True
    Worker.objects.update_or_create(pk=worker_id, defaults={"seen_at": Now()})
    return False


def requeue_dead(*, dead_after: timedelta) -> None:
    """Deletes the rows of dead workers, and requeues every running task without a live worker."""
    # Beats from before the clock was set back would look recent for too long. Live workers beat again in time.
    Worker.objects.filter(seen_at__gt=Now() + dead_after).update(seen_at=Now())
    Worker.objects.filter(seen_at__lte=Now() - dead_after).delete()
    # Read tasks before workers: a worker has a row before it claims a task, so no live worker of a task is missed.
    running = list(DBTaskResult.objects.running())
    living = set(Worker.objects.values_list("pk", flat=True))
    attempts.requeue(task for task in running if task.worker_ids[-1].partition("/")[0] not in living)


def release(lane_id: str) -> None:
    """Requeues the tasks that a lane left running. Only that lane may call this, and only while it runs no task."""
    attempts.requeue(task for task in list(DBTaskResult.objects.running()) if task.worker_ids[-1] == lane_id)


def beat_age() -> float | None:
    """Seconds since the latest beat of any worker. None if there is no worker."""
    age = ExpressionWrapper(Now() - F("seen_at"), output_field=DurationField())
    latest = Worker.objects.order_by("-seen_at").values_list(age, flat=True).first()
    return None if latest is None else latest.total_seconds()
