"""Recurring tasks: entries in code, due times in the database, each enqueued once however many workers look."""

from collections.abc import Callable, Iterable
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


@dataclass(frozen=True)
class Entry:
    """One recurring task: its name (which is its row), the task, and its period.

    The period is a timedelta, or a callable that gives seconds when asked, so that settings are read at call time.
    Zero seconds mean never. Due times are looked at with each heartbeat: a shorter period than that is not kept.
    """

    name: str
    task: "Task[[], Any]"
    every: timedelta | Callable[[], float]

    @property
    def period(self) -> timedelta:
        return self.every if isinstance(self.every, timedelta) else timedelta(seconds=self.every())

    @property
    def is_due(self) -> Q:
        """Of the entry's row: whether its time has come."""
        # Further away than two periods: the period was shortened, or a clock was put back. Neither shall wait for it.
        return Q(Q(due_at__lte=Now()) | Q(due_at__gt=Now() + 2 * self.period), pk=self.name)


def enqueue_due(entries: Iterable[Entry]) -> list[str]:
    """Enqueues what is due, and returns the names. A new entry is due at once."""
    by_name = {entry.name: entry for entry in entries if entry.period}
    known = set(Schedule.objects.values_list("pk", flat=True))
    Schedule.objects.bulk_create([Schedule(name=name) for name in by_name.keys() - known], ignore_conflicts=True)
    unfinished = DBTaskResult.objects.filter(status__in=(TaskResultStatus.READY, TaskResultStatus.RUNNING))
    # No second one beside a task that still waits or runs: it stays due, and follows when that one has ended.
    idle = Schedule.objects.exclude(last_task_id__in=unfinished.values("pk"))
    due = idle.filter(reduce(or_, (entry.is_due for entry in by_name.values()), Q(pk__in=[]))).in_bulk()
    return [name for name, entry in by_name.items() if name in due and _claim_and_enqueue(entry, due[name])]


def _claim_and_enqueue(entry: Entry, seen: Schedule) -> bool:
    with transaction.atomic():
        # Two workers may have seen it due. The second UPDATE waits for the first, and then its condition is false:
        # each turn changes the last task. (Asking for the time again is not enough: the second statement may be the
        # older one.) The next turn counts from now: after a night without workers it comes once, not a hundred times.
        claim = Schedule.objects.filter(pk=seen.pk, last_task_id=seen.last_task_id)
        if not claim.update(due_at=Now() + entry.period):
            return False
        result = entry.task.enqueue()
        Schedule.objects.filter(pk=seen.pk).update(last_task_id=result.id)
    return True


def enqueue_unless_waiting(wanted: "Task[[], Any]") -> None:
    """Enqueues a task of which none waits for a worker yet."""
    waiting = DBTaskResult.objects.filter(task_path=wanted.module_path, status=TaskResultStatus.READY)
    if not waiting.exists():
        wanted.enqueue()


@task
def prune() -> int:
    """Deletes tasks that ended well more than an hour ago, and failed ones after a week. Returns how many."""
    now = timezone.now()
    old = Q(status=TaskResultStatus.SUCCESSFUL, finished_at__lt=now - timedelta(hours=1))
    old_failure = Q(status=TaskResultStatus.FAILED, finished_at__lt=now - timedelta(days=7))
    deleted, _ = DBTaskResult.objects.filter(old | old_failure).delete()
    return deleted


PRUNE = Entry("prune", prune, every=timedelta(minutes=10))
