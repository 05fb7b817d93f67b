from array import array
from collections.abc import Iterable, Sequence

from django.conf import settings
from django.db import models
from django.db.models import Q

from runsadmin.models.fields import CleanTextField
from runsadmin.models.transitions import ClaimableQuerySet

# The maximum length of a reason, in characters.
MAX_REASON_LENGTH = 500


class EditSource(models.TextChoices):
    """Where an edit or a bulk edit was requested."""

    ADMIN = "admin", "Admin"
    API = "api", "REST API"
    COMMAND = "command", "Command line"


class BulkEditStatus(models.TextChoices):
    PLANNING = "planning", "Planning"
    PLANNED = "planned", "Planned"
    QUEUED = "queued", "Queued"
    RUNNING = "running", "Running"
    PAUSED = "paused", "Paused"
    COMPLETED = "completed", "Completed"
    CANCELLED = "cancelled", "Cancelled"
    FAILED = "failed", "Failed"
    EXPIRED = "expired", "Expired"


S = BulkEditStatus

# Every permitted transition, and why it happens.
TRANSITIONS: dict[BulkEditStatus, dict[BulkEditStatus, str]] = {
    S.PLANNING: {
        S.PLANNED: "every selected run has an edit in the plan",
        S.FAILED: "planning failed with an internal error",
        S.CANCELLED: "a user discarded it",
    },
    S.PLANNED: {
        S.QUEUED: "a user applied the plan",
        S.EXPIRED: "it was not applied in time",
        S.CANCELLED: "a user discarded it",
    },
    S.QUEUED: {
        S.RUNNING: "a worker claimed the first of its edits",
        S.PAUSED: "a user paused it, or upstream changed keys that no edit touched",
        S.COMPLETED: "every edit has ended",
        S.CANCELLED: "a user cancelled it",
    },
    S.RUNNING: {
        S.PAUSED: "a user paused it, its canary has ended, or upstream changed keys that no edit touched",
        S.COMPLETED: "every edit has ended",
        S.CANCELLED: "a user cancelled it",
    },
    S.PAUSED: {
        S.QUEUED: "a user resumed it",
        S.CANCELLED: "a user cancelled it",
    },
    S.COMPLETED: {S.QUEUED: "a user retried the failed edits"},
    S.CANCELLED: {},
    S.FAILED: {},
    S.EXPIRED: {},
}

# In these statuses, pending edits may be sent.
IN_PROGRESS = (S.QUEUED, S.RUNNING)
ENDED = (S.COMPLETED, S.CANCELLED, S.FAILED, S.EXPIRED)


class BulkEditQuerySet(ClaimableQuerySet["BulkEdit"]):
    transitions = TRANSITIONS


class BulkEdit(models.Model):
    """One patch for many runs: planned as one edit per run, reviewed, then applied.

    The selection is frozen. Applying sends the edits of the plan and nothing else.
    """

    Status = BulkEditStatus

    actor = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    applied_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")
    source = models.CharField(max_length=16, choices=EditSource.choices)
    reason = models.CharField(max_length=MAX_REASON_LENGTH)
    request_id = models.CharField(max_length=128, blank=True, help_text="The id of the request that recorded it.")

    connection = models.CharField(max_length=64, help_text="The connection of all of its runs.")
    query = models.TextField(blank=True, help_text="The search that selected the runs. Empty if selected by id.")
    tz = models.CharField(max_length=64, default="UTC", help_text="The time zone of the dates and times in the search.")
    selected = models.PositiveIntegerField(default=0, help_text="How many runs were selected.")
    not_selected = models.JSONField(default=list, help_text="The ids that could not be selected, and why.")
    set = models.JSONField(default=dict, help_text="Keys to set, with templates of their values.")
    remove = models.JSONField(default=list, help_text="Keys to remove.")
    rename = models.JSONField(default=dict, help_text="Keys to rename, with their new names.")
    undoes = models.ForeignKey("self", on_delete=models.PROTECT, null=True, related_name="undone_by")

    status = models.CharField(max_length=16, choices=Status.choices, default=Status.PLANNING)
    detail = CleanTextField(blank=True, help_text="What happened last.")
    planned = models.PositiveIntegerField(default=0, help_text="How many of the selected runs have been planned.")
    wait_for_active = models.DurationField(
        null=True, help_text="How long to wait for active runs after applying. Empty: active runs are skipped."
    )
    active_until = models.DateTimeField(null=True)
    apply_when_planned = models.BooleanField(default=False, help_text="Apply the plan as soon as it is complete.")
    canary = models.PositiveIntegerField(null=True, help_text="How many edits to send before pausing.")

    rewrites_seen_at = models.DateTimeField(
        null=True, help_text="When upstream first changed keys that an edit did not touch."
    )
    accepts_rewrites = models.BooleanField(
        default=False, help_text="Whether a user resumed it after upstream had changed keys that no edit touched."
    )

    created_at = models.DateTimeField(auto_now_add=True)
    planned_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True, help_text="When the plan expires.")
    applied_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    # The rate is measured from this point: when sending last started, and how many edits had ended by then.
    running_since = models.DateTimeField(null=True)
    ended_before = models.PositiveIntegerField(default=0)

    # The claim of the process that is planning this bulk edit.
    claim_token = models.UUIDField(null=True)
    claimed_until = models.DateTimeField(null=True)
    attempts = models.PositiveSmallIntegerField(
        default=0, help_text="How many processes in a row have started on the next block of its plan and died."
    )

    objects = BulkEditQuerySet.as_manager()

    class Meta:
        permissions = [("apply_bulkedit", "Can apply bulk edit")]
        constraints = [
            models.CheckConstraint(condition=Q(status__in=BulkEditStatus.values), name="bulk_edit_status_is_known"),
            models.CheckConstraint(
                condition=Q(status__in=ENDED, finished_at__isnull=False)
                | Q(~Q(status__in=ENDED), finished_at__isnull=True),
                name="bulk_edit_ended_has_a_time",
            ),
        ]
        indexes = [
            models.Index(fields=["status", "-id"], name="bulk_edit_by_status"),
            models.Index(fields=["actor", "-id"], name="bulk_edit_by_actor"),
        ]

    def __str__(self) -> str:
        return f"bulk edit {self.pk}"

    @property
    def is_paused_for_rewrites(self) -> bool:
        """Whether a user must decide whether it continues, because upstream changed keys that no edit touched."""
        return self.status == S.PAUSED and self.rewrites_seen_at is not None and not self.accepts_rewrites

    @property
    def is_in_progress(self) -> bool:
        return self.status in IN_PROGRESS

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED


class SelectionSnapshot(models.Model):
    """The frozen selection of a bulk edit, in the order of planning. Deleted when the plan is complete.

    It has the primary keys of the runs or, for an undo, of the edits to undo.
    """

    bulk_edit = models.OneToOneField(BulkEdit, on_delete=models.CASCADE, primary_key=True, related_name="selection")
    packed = models.BinaryField(help_text="Primary keys, as 64-bit integers.")

    def __str__(self) -> str:
        return f"the selection of {self.bulk_edit_id}"


class DraftSelection(models.Model):
    """Runs that a user has selected for a bulk edit, frozen until the bulk edit is planned."""

    actor = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    connection = models.CharField(max_length=64)
    query = CleanTextField(blank=True, help_text="The search that found the runs. Empty if they were ticked.")
    tz = models.CharField(max_length=64, default="UTC", help_text="The time zone of the dates and times in the search.")
    packed = models.BinaryField(help_text="Primary keys of the runs, as 64-bit integers, in planning order.")
    not_selected = models.JSONField(default=list, help_text="The ids of ticked runs that no longer exist, and why.")

    def __str__(self) -> str:
        return f"draft selection {self.pk}"


def pack_keys(keys: Iterable[int]) -> bytes:
    return array("q", keys).tobytes()


def unpack_keys(packed: bytes | memoryview) -> Sequence[int]:
    unpacked = array("q")
    unpacked.frombytes(bytes(packed))
    return unpacked
