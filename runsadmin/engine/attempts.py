"""What becomes of a task whose worker died, or whose result could not be stored: another attempt, or its end.

Each claim appends to `worker_ids`, so their number is the number of attempts.
"""

import logging
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.tasks import TaskResultStatus
from django.utils import timezone
from django_tasks_db.models import DBTaskResult, get_date_max

from runsadmin.errors import InvalidTransition

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
# The pause before the third attempt. The second follows at once, since few workers die because of their task.
PAUSE = timedelta(seconds=5)
LOST = "runsadmin.engine.attempts.Lost"


def requeue(tasks: Iterable[DBTaskResult[..., Any]]) -> None:
    """Requeues tasks that are running without a worker. The last permitted attempt ends a task instead."""
    for task in tasks:
        # The condition includes the claim: the task may have ended, or another worker may have claimed it.
        claim = DBTaskResult.objects.filter(pk=task.pk, status=TaskResultStatus.RUNNING, worker_ids=task.worker_ids)
        attempts, worker = len(task.worker_ids), task.worker_ids[-1]
        if attempts >= MAX_ATTEMPTS:
            why = f"It was left running {attempts} times: its workers died, or its result could not be stored."
            if end(claim, f"{why}\n{'\n'.join(task.worker_ids)}\n"):
                logger.error("Task id=%s path=%s ended. %s", task.pk, task.task_path, why)
            continue
        run_after = get_date_max() if attempts == 1 else timezone.now() + (attempts - 1) * PAUSE
        if claim.update(status=TaskResultStatus.READY, started_at=None, run_after=run_after):
            logger.warning("Task id=%s was left running by worker %s: requeued", task.pk, worker)


def start_delayed() -> int:
    """Makes requeued tasks due that start too far ahead because the clock was set back. Returns how many."""
    ahead = Q(run_after__gt=Now() + 2 * MAX_ATTEMPTS * PAUSE, run_after__lt=get_date_max())
    return DBTaskResult.objects.filter(ahead, status=TaskResultStatus.READY).update(run_after=Now())


def end(claim: "QuerySet[DBTaskResult[..., Any]]", why: str, *, exception: str = LOST) -> int:
    """Ends a task as failed. Returns how many tasks have ended: 0 if its claim was lost."""
    return claim.update(
        status=TaskResultStatus.FAILED,
        finished_at=timezone.now(),
        return_value=None,
        exception_class_path=exception,
        traceback=why,
    )


def retry(*, task: "DBTaskResult[..., Any]", actor: User) -> None:
    """Runs a failed task again, as if it were new. Raises InvalidTransition."""
    failed = DBTaskResult.objects.filter(pk=task.pk, status=TaskResultStatus.FAILED)
    if not failed.update(
        status=TaskResultStatus.READY,
        started_at=None,
        finished_at=None,
        worker_ids=[],
        exception_class_path="",
        traceback="",
        run_after=get_date_max(),
    ):
        raise InvalidTransition("Only a failed task can be retried.")
    logger.info("Task id=%s path=%s was retried by %s", task.pk, task.task_path, actor.get_username())
