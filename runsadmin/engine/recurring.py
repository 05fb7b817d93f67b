"""Enqueues recurring tasks. Due times are in the database, so that any number of workers enqueue each task only once.

The tasks are listed in `runsadmin.tasks.SCHEDULE`. The settings RUNSADMIN_SYNC_EVERY and RUNSADMIN_FULL_SYNC_EVERY say
how often threads are synced.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from functools import reduce
from operator import or_
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.tasks import Task, TaskResultStatus, task
from django.utils import timezone
from django_tasks_db.models import DBTaskResult

from runsadmin.models.worker import Schedule

# An entry whose tasks keep failing runs at least this often, unless its period is longer.
LONGEST_PERIOD = timedelta(minutes=1)


@dataclass(frozen=True)
class Entry:
    """A recurring task. `name` is the primary key of its row. Due times are checked once per heartbeat."""

    name: str
    task: "Task[[], Any]"
    every: timedelta

    @property
    def is_due(self) -> Q:
        """The condition that the entry's row is due."""
        # Two or more periods ahead: the period was shortened or the clock was set back. Run it now.
        too_far = Q(failures=0, due_at__gt=Now() + 2 * self.every) | Q(due_at__gt=Now() + 2 * self.longest)
        return Q(Q(due_at__lte=Now()) | too_far, pk=self.name)

    @property
    def longest(self) -> timedelta:
        """The longest period after failures."""
        return max(self.every, LONGEST_PERIOD)

    def period(self, failures: int) -> timedelta:
        """How long after a task the next one is due. Each failure in a row doubles it."""
        doubled = self.every * float(2 ** min(failures, 20))
        return min(doubled, self.longest)


def enqueue_due(entries: Iterable[Entry]) -> list[str]:
    """Enqueues the tasks that are due and returns their names. A new entry is due at once."""
    by_name = {entry.name: entry for entry in entries}
    known = set(Schedule.objects.values_list("pk", flat=True))
    Schedule.objects.bulk_create([Schedule(name=name) for name in by_name.keys() - known], ignore_conflicts=True)
    unfinished = DBTaskResult.objects.filter(status__in=(TaskResultStatus.READY, TaskResultStatus.RUNNING))
    # Do not enqueue a second task while one is waiting or running: the entry stays due until that task has ended.
    idle = Schedule.objects.exclude(last_task_id__in=unfinished.values("pk"))
    due = idle.filter(reduce(or_, (entry.is_due for entry in by_name.values()), Q(pk__in=[]))).in_bulk()
    last_tasks = DBTaskResult.objects.filter(pk__in=[row.last_task_id for row in due.values()])
    failed = set(last_tasks.failed().values_list("pk", flat=True))
    return [
        name
        for name, entry in by_name.items()
        if (row := due.get(name)) and _claim_and_enqueue(entry, row, has_failed=row.last_task_id in failed)
    ]


def _claim_and_enqueue(entry: Entry, seen: Schedule, *, has_failed: bool) -> bool:
    failures = seen.failures + 1 if has_failed else 0
    with transaction.atomic():
        # Two workers may both see the entry as due. The second UPDATE waits for the first, and then its condition is
        # false, since the first has changed `last_task_id`. (A condition on the time would not work: the second
        # statement may have started earlier.) The next period starts now, so after a night without workers the task
        # runs once.
        claim = Schedule.objects.filter(pk=seen.pk, last_task_id=seen.last_task_id)
        if not claim.update(due_at=Now() + entry.period(failures), failures=min(failures, 1000)):
            return False
        result = entry.task.enqueue()
        Schedule.objects.filter(pk=seen.pk).update(last_task_id=result.id)
    return True


def enqueue_unless_waiting(wanted: "Task[[], Any]") -> None:
    """Enqueues a task, unless the same task is already waiting for a worker."""
    waiting = DBTaskResult.objects.filter(task_path=wanted.module_path, status=TaskResultStatus.READY)
    if not waiting.exists():
        wanted.enqueue()


def failed_last(wanted: "Task[[], Any]") -> bool:
    """Whether the newest ended task failed. While a task keeps failing, only the schedule should start it again."""
    # A time in the future was stored before the clock was set back.
    ended = DBTaskResult.objects.finished().filter(task_path=wanted.module_path, finished_at__lte=timezone.now())
    return ended.order_by("-finished_at").values_list("status", flat=True).first() == TaskResultStatus.FAILED


def enqueue_each(wanted: "Task[[int], Any]", keys: Iterable[int]) -> int:
    """Enqueues a task for each of these rows, unless one is already waiting for it. Returns how many were enqueued."""
    waiting = DBTaskResult.objects.filter(task_path=wanted.module_path, status=TaskResultStatus.READY)
    known = {key for task in waiting.values_list("args_kwargs", flat=True) for key in task["args"]}
    new = [key for key in keys if key not in known]
    for key in new:
        wanted.enqueue(key)
    return len(new)


@task
def prune() -> int:
    """Deletes successful tasks after an hour, and failed ones after a week. Returns the number of deleted tasks."""
    now = timezone.now()
    old = Q(status=TaskResultStatus.SUCCESSFUL, finished_at__lt=now - timedelta(hours=1))
    old_failure = Q(status=TaskResultStatus.FAILED, finished_at__lt=now - timedelta(days=7))
    deleted, _ = DBTaskResult.objects.filter(old | old_failure).delete()
    return deleted


PRUNE = Entry("prune", prune, every=timedelta(minutes=10))
