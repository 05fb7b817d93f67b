from django.conf import settings
from django.db import models
from django.db.models import Q

from runsadmin.models.bulk_edit import EditSource
from runsadmin.models.fields import CleanTextField
from runsadmin.models.transitions import ClaimableQuerySet


class ExportFormat(models.TextChoices):
    CSV = "csv", "CSV"
    JSONL = "jsonl", "JSON Lines"
    PARQUET = "parquet", "Parquet"


class ExportStatus(models.TextChoices):
    QUEUED = "queued", "Queued"
    RUNNING = "running", "Running"
    COMPLETED = "completed", "Completed"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"
    EXPIRED = "expired", "Expired"


S = ExportStatus

# Every permitted transition, and why it happens.
TRANSITIONS: dict[ExportStatus, dict[ExportStatus, str]] = {
    S.QUEUED: {
        S.RUNNING: "a worker started to write its file",
        S.CANCELLED: "a user cancelled it before it started",
    },
    S.RUNNING: {
        S.COMPLETED: "all runs were sent or written",
        S.FAILED: "an error ended it, or its process died while it sent runs, or several while they wrote its file",
        S.CANCELLED: "a user cancelled it, or the client closed the connection",
    },
    S.COMPLETED: {
        S.EXPIRED: "its file was deleted",
    },
    S.FAILED: {},
    S.CANCELLED: {},
    S.EXPIRED: {},
}

UNFINISHED = (S.QUEUED, S.RUNNING)
# How many exports the web processes send at the same time.
SLOTS = 2


class ExportQuerySet(ClaimableQuerySet["Export"]):
    transitions = TRANSITIONS


class Export(models.Model):
    """Runs that are sent to a client as they are read or, with `is_file`, written to a file by a worker.

    The row is also the record of who exported what.
    """

    Status = ExportStatus
    Format = ExportFormat

    actor = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    source = models.CharField(max_length=16, choices=EditSource.choices)
    request_id = models.CharField(max_length=128, blank=True, default="")
    format = models.CharField(max_length=16, choices=Format.choices)
    columns = CleanTextField(blank=True, help_text="Names of columns, separated by commas. Empty for JSON Lines.")
    query = CleanTextField("search", blank=True, help_text="Empty if all runs were exported, or ticked ones.")
    tz = models.CharField("time zone", max_length=64, default="UTC", help_text="For the dates in the search.")
    selected = models.BinaryField(null=True, help_text="The primary keys of ticked runs, if it is not a search.")
    is_file = models.BooleanField("in a file", default=False, help_text="Whether a worker writes it to a file.")

    status = models.CharField(max_length=16, choices=Status.choices, default=Status.QUEUED)
    detail = CleanTextField(blank=True)
    slot = models.PositiveSmallIntegerField(
        null=True, unique=True, help_text=f"A number up to {SLOTS} while a web process sends it."
    )
    file = models.CharField(max_length=128, blank=True, default="", help_text="The name of its file in the folder.")
    attempts = models.PositiveSmallIntegerField(default=0, help_text="How often workers have started its file.")
    claim_token = models.UUIDField(null=True)
    claimed_until = models.DateTimeField(null=True)

    rows = models.PositiveBigIntegerField(default=0, help_text="How many runs were sent or written.")
    size = models.PositiveBigIntegerField(default=0, help_text="In bytes.")
    manifest = models.JSONField(null=True, help_text="What was exported, and what is missing in it.")

    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True, help_text="When its file is deleted.")

    objects = ExportQuerySet.as_manager()

    is_of_ticked: bool  # Set only by `exports.visible_to`.

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(status__in=ExportStatus.values), name="export_status_is_known"),
            models.CheckConstraint(condition=Q(slot=None) | Q(status=S.RUNNING), name="export_slot_while_running"),
        ]
        indexes = [
            models.Index(fields=["actor", "-id"], name="export_by_actor"),
            models.Index(fields=["status", "id"], condition=Q(status__in=UNFINISHED), name="export_unfinished"),
            models.Index(fields=["expires_at"], condition=Q(status=S.COMPLETED, is_file=True), name="export_files"),
        ]

    def __str__(self) -> str:
        return f"export {self.pk}"

    @property
    def has_file(self) -> bool:
        """Whether its file can be downloaded."""
        return self.is_file and self.status == S.COMPLETED

    @property
    def filename(self) -> str:
        return f"runs-{self.pk}.{self.format}"
