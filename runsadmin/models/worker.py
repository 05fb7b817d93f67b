"""What the background engine writes down about itself: who is alive, and when each recurring task is due.

All times are written and compared by the database's clock: workers on several machines need not agree on the time.
"""

from django.db import models
from django.db.models.functions import Now


class Worker(models.Model):
    """A living worker process. Other workers delete the row when the heartbeat stops."""

    # Readable, because it appears in logs and in the `worker_ids` of tasks: host, process id, eight random letters.
    id = models.CharField(primary_key=True, max_length=64)
    started_at = models.DateTimeField(db_default=Now())
    seen_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return self.id


class Schedule(models.Model):
    """When a recurring task is due next. What recurs, and how often, is code: see `runsadmin.engine.schedule`."""

    name = models.CharField(primary_key=True, max_length=64)
    due_at = models.DateTimeField(db_default=Now())
    # Of the task enqueued last. No foreign key: finished tasks are pruned, and that must not touch the schedule.
    last_task_id = models.UUIDField(null=True, editable=False)

    def __str__(self) -> str:
        return self.name
