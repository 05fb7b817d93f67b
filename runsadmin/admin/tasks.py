"""Background tasks that wait, run or have failed, for operators. Successful ones are not shown: there are many."""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.options import ActionLocation
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.tasks import TaskResultStatus
from django.utils import timezone
from django.utils.safestring import SafeString
from django_tasks_db.models import get_date_max

from runsadmin.admin import filters
from runsadmin.admin.base import ReadOnlyAdmin, actor
from runsadmin.engine import attempts
from runsadmin.models import Task
from runsadmin.services.permissions import Action
from runsadmin.templatetags import display, links

# A task that waits longer than this is reported: no worker takes tasks of its queue.
LONG_WAIT = timedelta(minutes=2)

# For each status, the status of a sync or an edit that has the same color, and the label.
_STATUSES = {
    TaskResultStatus.READY: ("queued", "Waiting"),
    TaskResultStatus.RUNNING: ("running", "Running"),
    TaskResultStatus.FAILED: ("failed", "Failed"),
}


@admin.register(Task)
class TaskAdmin(ReadOnlyAdmin):
    view_action = Action.VIEW_TASKS
    actions = ("retry",)
    change_list_template = "runsadmin/tasks.html"
    # The primary key is random, and no two tasks are enqueued in the same microsecond.
    keyset = ("enqueued_at", "priority")

    list_display = ("enqueued", "status_", "name", "attempts_", "queue_name", "error_")
    list_filter = (
        filters.choice("status", [(status.value, shown) for status, (_, shown) in _STATUSES.items()]),
        filters.choice("queue_name", [(name, name) for name in settings.TASKS["default"]["QUEUES"]], title="queue"),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Task]:
        queryset: QuerySet[Task] = super().get_queryset(request)
        return queryset.exclude(status=TaskResultStatus.SUCCESSFUL)

    def is_live(self, task: Task) -> bool:
        return bool(task.status != TaskResultStatus.FAILED)

    @admin.display(description="enqueued")
    def enqueued(self, task: Task) -> SafeString:
        return display.short_moment(task.enqueued_at)

    @admin.display(description="status")
    def status_(self, task: Task) -> SafeString:
        return badge_of(task)

    @admin.display(description="task")
    def name(self, task: Task) -> str:
        return str(task)

    @admin.display(description="attempts")
    def attempts_(self, task: Task) -> str:
        return f"{len(task.worker_ids)} of {attempts.MAX_ATTEMPTS}"

    @admin.display(description="error")
    def error_(self, task: Task) -> str:
        return last_line_of(task)

    def page(self, request: HttpRequest, task: Task) -> HttpResponse:
        possible = self.actions if task.status == TaskResultStatus.FAILED else ()
        starts_at = None if task.run_after == get_date_max() else task.run_after
        return self.render(
            request, "runsadmin/task.html", str(task), task=task, original=task,
            badge=badge_of(task), is_live=self.is_live(task), starts_at=starts_at, max_attempts=attempts.MAX_ATTEMPTS,
            **self.page_actions(request, task, possible),
        )  # fmt: skip

    @admin.action(description="Retry", permissions=["retry_tasks"], location=ActionLocation.CHANGE_FORM)
    def retry(self, request: HttpRequest, queryset: QuerySet[Task]) -> None:
        for task in queryset:
            attempts.retry(task=task, actor=actor(request))
            messages.success(request, "The task waits for a worker, which starts it within seconds.")


def badge_of(task: Task) -> SafeString:
    return display.badge(*_STATUSES[TaskResultStatus(task.status)])


def last_line_of(task: Task) -> str:
    """The last line of the traceback, which names the exception."""
    lines = task.traceback.strip().splitlines()
    return display.text(lines[-1][:200]) if lines else ""


def problems() -> dict[str, Any]:
    """How many tasks have failed within a day, how many have waited for too long, and the URL of their list."""
    now = timezone.now()
    waiting = Task.objects.ready().filter(enqueued_at__lt=now - LONG_WAIT)
    # `run_after` is the end of a requeued task's pause. Without a pause, it is the latest possible date.
    late = waiting.filter(run_after=get_date_max()) | waiting.filter(run_after__lt=now - LONG_WAIT)
    failed = Task.objects.failed().filter(finished_at__gte=now - timedelta(days=1))
    return {"failed": failed.count(), "waiting": late.count(), "url": links.list_url(Task)}
