"""The state of the background engine: which workers are alive, and when each recurring task is due.

All times are written and compared by the database's clock, so workers on several machines need not agree on the time.
"""

from django.db import models
from django.db.models.functions import Now


class Worker(models.Model):
    """A live worker process. Other workers delete the row when its heartbeat stops."""

    # Host, process id and eight random characters: readable, since it appears in logs and in the `worker_ids` of tasks.
    id = models.CharField(primary_key=True, max_length=64)
    started_at = models.DateTimeField(db_default=Now())
    seen_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return self.id


class Schedule(models.Model):
    """When a recurring task is due next. The tasks and their periods are defined in `runsadmin.tasks.SCHEDULE`."""

    name = models.CharField(primary_key=True, max_length=64)
    due_at = models.DateTimeField(db_default=Now())
    # The task that was enqueued last. Not a foreign key, since pruning finished tasks must not affect the schedule.
    last_task_id = models.UUIDField(null=True, editable=False)
    failures = models.PositiveSmallIntegerField(default=0, help_text="How many of its tasks in a row have failed.")

    def __str__(self) -> str:
        return self.name
