from django.conf import settings
from django.db import models
from django.db.models import F, Q

from runsadmin.models.fields import ByteOrderedCharField, CleanTextField
from runsadmin.models.thread import Thread
from runsadmin.models.transitions import ClaimableQuerySet


class SyncStatus(models.TextChoices):
    QUEUED = "queued", "Queued"
    RUNNING = "running", "Running"
    PAUSED = "paused", "Paused"
    COMPLETED = "completed", "Completed"
    COMPLETED_WITH_ERRORS = "completed_with_errors", "Completed with errors"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"


S = SyncStatus

# Every permitted transition, and why it happens.
TRANSITIONS: dict[SyncStatus, dict[SyncStatus, str]] = {
    S.QUEUED: {
        S.RUNNING: "a worker or a command started it",
        S.CANCELLED: "a user cancelled it before it started",
    },
    S.RUNNING: {
        S.PAUSED: "a user paused it",
        S.COMPLETED: "every thread was read",
        S.COMPLETED_WITH_ERRORS: "every thread was tried, and some could not be read completely",
        S.FAILED: "no thread could be read",
        S.CANCELLED: "a user cancelled it",
    },
    S.PAUSED: {
        S.RUNNING: "a user resumed it",
        S.CANCELLED: "a user cancelled it",
    },
    S.COMPLETED: {},
    S.COMPLETED_WITH_ERRORS: {},
    S.FAILED: {},
    S.CANCELLED: {},
}

UNFINISHED = (S.QUEUED, S.RUNNING, S.PAUSED)


class SyncQuerySet(ClaimableQuerySet["Sync"]):
    transitions = TRANSITIONS


class Sync(models.Model):
    """One pass over the tracked threads of a connection that reads their runs into the mirror."""

    Status = SyncStatus

    class Kind(models.TextChoices):
        INCREMENTAL = "incremental", "Incremental"
        FULL = "full", "Full"

    connection = models.CharField(max_length=64)
    kind = models.CharField(max_length=16, choices=Kind.choices, default=Kind.INCREMENTAL)
    # None means every tracked thread of the connection.
    thread = models.ForeignKey(Thread, on_delete=models.CASCADE, null=True, blank=True, related_name="syncs")
    actor = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")
    status = models.CharField(max_length=32, choices=Status.choices, default=Status.QUEUED)
    detail = CleanTextField(blank=True)

    # Where to continue. Threads are read in the order of their primary keys.
    last_thread = models.BigIntegerField(default=0, help_text="The primary key of the last finished thread.")
    cursor = ByteOrderedCharField(
        max_length=128, blank=True, default="", help_text="The last run read in the current thread."
    )
    first_run = ByteOrderedCharField(
        max_length=128, blank=True, default="", help_text="The first run read in the current thread."
    )
    oldest_first = models.BooleanField(default=False, help_text="Whether the current thread is read oldest first.")
    reading = models.TextField(
        blank=True,
        default="",
        help_text="What the pages of the current thread have shown, as JSON. Set when the sync is interrupted.",
    )
    claim_token = models.UUIDField(null=True)
    claimed_until = models.DateTimeField(null=True)
    attempts = models.PositiveSmallIntegerField(
        default=0, help_text="How many processes in a row have started on the current thread and died."
    )

    threads_total = models.PositiveIntegerField(default=0)
    threads_done = models.PositiveIntegerField(default=0)
    pages = models.PositiveIntegerField(default=0)
    runs_seen = models.PositiveIntegerField(default=0)
    runs_created = models.PositiveIntegerField(default=0)
    runs_updated = models.PositiveIntegerField(default=0)
    errors_count = models.PositiveIntegerField(default=0)

    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    objects = SyncQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(status__in=SyncStatus.values), name="sync_status_is_known"),
            models.CheckConstraint(condition=Q(threads_done__lte=F("threads_total")), name="sync_threads_add_up"),
            models.UniqueConstraint(
                fields=["connection", "kind"],
                condition=Q(status__in=UNFINISHED, thread__isnull=True),
                name="sync_one_of_a_kind_at_a_time",
            ),
            models.UniqueConstraint(
                fields=["thread", "kind"], condition=Q(status__in=UNFINISHED), name="sync_one_of_a_thread_at_a_time"
            ),
        ]
        indexes = [models.Index(fields=["status", "id"], condition=Q(status__in=UNFINISHED), name="sync_unfinished")]

    def __str__(self) -> str:
        return f"{self.kind} sync {self.pk}"


class SyncError(models.Model):
    """A thread or run that a sync could not read. The error is recorded, and the sync continues."""

    sync = models.ForeignKey(Sync, on_delete=models.CASCADE, related_name="errors")
    thread = models.ForeignKey(Thread, on_delete=models.CASCADE, null=True, related_name="+")
    run_id = ByteOrderedCharField("run id", max_length=128, blank=True)
    message = CleanTextField()
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return str(self.message)
