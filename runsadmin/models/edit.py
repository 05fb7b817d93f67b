from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import Q

from runsadmin.models.bulk_edit import MAX_REASON_LENGTH, BulkEdit, EditSource
from runsadmin.models.fields import CleanCharField, CleanTextField, MetadataField, MetadataPatchField
from runsadmin.models.run import Run
from runsadmin.models.transitions import ClaimableQuerySet


class EditStatus(models.TextChoices):
    PLANNED = "planned", "Planned"
    PENDING = "pending", "Pending"
    SENDING = "sending", "Sending"
    UNKNOWN = "unknown", "Outcome unknown"
    APPLIED = "applied", "Applied"
    DIFFERS = "differs", "Differs"
    CONFLICT = "conflict", "Conflict"
    REJECTED = "rejected", "Rejected"
    FAILED = "failed", "Failed"
    SKIPPED = "skipped", "Skipped"
    CANCELLED = "cancelled", "Cancelled"


S = EditStatus

# Every permitted transition of an edit, and why it happens.
TRANSITIONS: dict[EditStatus, dict[EditStatus, str]] = {
    S.PLANNED: {
        S.PENDING: "the plan was applied",
        S.CANCELLED: "the plan was discarded or expired",
    },
    S.PENDING: {
        S.SENDING: "a process claimed it",
        S.FAILED: "the last permitted attempt failed",
        S.REJECTED: "upstream refused it and then accepted another write",
        S.CANCELLED: "it was cancelled before it was claimed",
    },
    S.SENDING: {
        S.APPLIED: "upstream returned exactly what was intended, or already had it",
        S.DIFFERS: "upstream returned something else",
        S.CONFLICT: "a key that the patch touches has changed since the actor saw it",
        S.REJECTED: "upstream refused it, it would exceed a limit, or the account may no longer edit",
        S.UNKNOWN: "the response was lost, or the claim expired after the write may have been sent",
        S.PENDING: "nothing was sent: it waits for its next attempt",
        S.FAILED: "nothing was sent, and the last permitted attempt failed",
    },
    S.UNKNOWN: {
        S.UNKNOWN: "a fetch was not yet conclusive",
        S.APPLIED: "a fetch found the whole change",
        S.DIFFERS: "a late response showed something else",
        S.CONFLICT: "a fetch found neither what was there before nor what was intended",
        S.PENDING: "a fetch after the settling time found no change: it may be sent again",
        S.FAILED: "the write did not happen, and the last permitted attempt failed",
        S.REJECTED: "upstream no longer has the run",
    },
    S.FAILED: {
        S.PENDING: "it was retried",
        S.REJECTED: "its values were purged, so it can no longer be retried",
    },
    S.APPLIED: {},
    S.DIFFERS: {},
    S.CONFLICT: {},
    S.REJECTED: {},
    S.SKIPPED: {},
    S.CANCELLED: {},
}

IN_FLIGHT = (S.SENDING, S.UNKNOWN)
UNSETTLED = (S.PENDING, S.SENDING, S.UNKNOWN)
ENDED = (S.APPLIED, S.DIFFERS, S.CONFLICT, S.REJECTED, S.FAILED, S.SKIPPED, S.CANCELLED)


class EditQuerySet(ClaimableQuerySet["Edit"]):
    transitions = TRANSITIONS

    def refused(self, connection: str) -> Self:
        """The edits of a connection that were refused once and wait for the result of another write."""
        return self.filter(wait_reason=Edit.WaitReason.REFUSED, status=S.PENDING, run__connection=connection)


class Edit(models.Model):
    """One intended change to one run's metadata: who wants it, why, and its outcome.

    The row is written before anything is sent, and always ends in an outcome.
    """

    Status = EditStatus

    Source = EditSource

    class WaitReason(models.TextChoices):
        """What a pending edit waits for. Empty if only for its turn."""

        TURN = "", "Its turn"
        RETRY = "retry", "The next attempt"
        ACTIVE_RUN = "active_run", "The run to end"
        HELD = "held", "The connection"
        REFUSED = "refused", "Another write, to show whether only this one is refused"

    class PlanResult(models.TextChoices):
        """What planning found for a run. Any result other than CHANGE means that the run is skipped."""

        CHANGE = "change", "Change"
        NOTHING = "nothing", "Nothing to do"
        TOO_MANY_PAIRS = "too_many_pairs", "Over 16 pairs"
        TOO_LONG = "too_long", "Too long"
        NAME_TAKEN = "name_taken", "The new name is taken"
        ACTIVE = "active", "Active when planned"
        NO_VALUE = "no_value", "A field has no value"
        MISSING = "missing", "Missing upstream"
        METADATA_UNKNOWN = "metadata_unknown", "Metadata unknown"
        INVALID_ID = "invalid_id", "Invalid id"
        CHANGED_SINCE = "changed_since", "Changed since"
        ERROR = "error", "Internal error"

    run = models.ForeignKey(Run, on_delete=models.CASCADE, db_index=False, related_name="edits")
    bulk_edit = models.ForeignKey(BulkEdit, on_delete=models.PROTECT, null=True, db_index=False, related_name="edits")
    plan_result = models.CharField(max_length=16, choices=PlanResult.choices, blank=True)
    actor = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, db_index=False, related_name="+")
    source = models.CharField(max_length=16, choices=Source.choices)
    reason = models.CharField(max_length=MAX_REASON_LENGTH, blank=True)
    request_id = models.CharField(max_length=128, blank=True, help_text="The id of the request that recorded it.")

    base = MetadataField(null=True, help_text="What the actor saw.")
    patch = MetadataPatchField(help_text="What the actor wants.")
    before = MetadataField(null=True, help_text="What the fetch found, saved before the write.")
    intended = MetadataField(null=True, help_text="The whole map to send, saved before the write.")
    after = MetadataField(null=True, help_text="What upstream returned.")

    status = models.CharField(max_length=16, choices=Status.choices, default=Status.PENDING)
    wait_reason = models.CharField(max_length=16, choices=WaitReason.choices, default=WaitReason.TURN, blank=True)
    detail = CleanTextField(blank=True, help_text="What happened last.")
    upstream_request_id = CleanCharField(max_length=256, blank=True)
    http_status = models.PositiveSmallIntegerField(null=True)
    attempts = models.PositiveIntegerField(default=0, help_text="How many attempts failed before anything was sent.")
    # Nullable, so that SQLite adds the column without copying the table.
    deaths = models.PositiveSmallIntegerField(
        null=True, help_text="How many processes died while they worked on it. Empty if none."
    )
    refusals = models.PositiveSmallIntegerField(default=0, help_text="How many consecutive responses were a 403.")
    next_attempt_at = models.DateTimeField(null=True)
    waiting_since = models.DateTimeField(null=True, help_text="When it started to wait for the active run to end.")

    claim_token = models.UUIDField(null=True)
    claimed_until = models.DateTimeField(null=True)

    # While this is set, a pending edit is not sent.
    restored_from = models.DateTimeField(
        null=True, help_text="When the backup was made that it was restored from, until a user releases it."
    )

    undoes = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, db_index=False, related_name="undone_by")
    resolves = models.ForeignKey(
        "self", on_delete=models.SET_NULL, null=True, db_index=False, related_name="resolved_by"
    )

    created_at = models.DateTimeField(auto_now_add=True)
    sent_at = models.DateTimeField(null=True, help_text="When the last write started.")
    race_window = models.DurationField(null=True, help_text="From the response of the fetch to the start of the write.")
    finished_at = models.DateTimeField(null=True)

    objects = EditQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["run"], condition=Q(status__in=IN_FLIGHT), name="edit_one_in_flight_per_run"
            ),
            models.CheckConstraint(condition=Q(status__in=EditStatus.values), name="edit_status_is_known"),
            models.CheckConstraint(
                condition=~Q(status=S.SENDING) | Q(claim_token__isnull=False, claimed_until__isnull=False),
                name="edit_sending_is_claimed",
            ),
            models.CheckConstraint(
                condition=~Q(status=S.UNKNOWN) | Q(before__isnull=False, intended__isnull=False, sent_at__isnull=False),
                name="edit_unknown_was_sent",
            ),
            models.CheckConstraint(
                condition=Q(status__in=ENDED, finished_at__isnull=False)
                | Q(~Q(status__in=ENDED), finished_at__isnull=True),
                name="edit_ended_has_a_time",
            ),
        ]
        # Keep few indexes: every status change rewrites all of them.
        indexes = [
            models.Index(fields=["run", "-id"], name="edit_by_run"),
            models.Index(fields=["actor", "-id"], name="edit_by_actor"),
            models.Index(fields=["status", "-id"], name="edit_by_status"),
            models.Index(fields=["bulk_edit", "id"], name="edit_by_bulk_edit"),
            models.Index(fields=["bulk_edit", "status", "id"], name="edit_by_bulk_status"),
            models.Index(fields=["bulk_edit", "plan_result", "id"], name="edit_by_bulk_plan_result"),
            models.Index(fields=["run"], condition=Q(wait_reason="refused"), name="edit_refused"),
            models.Index(fields=["deaths"], condition=Q(deaths__isnull=False), name="edit_deaths"),
            models.Index(fields=["run"], condition=Q(restored_from__isnull=False), name="edit_restored"),
            models.Index(fields=["undoes"], condition=Q(undoes__isnull=False), name="edit_by_undone"),
            models.Index(fields=["resolves"], condition=Q(resolves__isnull=False), name="edit_by_resolved"),
        ]

    def __str__(self) -> str:
        return f"edit {self.pk}"

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED

    @property
    def awaits_release(self) -> bool:
        """Whether it was restored from a backup, and a user has to release or cancel it."""
        return self.restored_from is not None and self.status in UNSETTLED

    @property
    def is_purged(self) -> bool:
        """Whether the values were purged with those of the run. Every other edit has a patch."""
        return not self.patch

    @property
    def may_be_undone(self) -> bool:
        return self.status in (S.APPLIED, S.DIFFERS) and not self.is_purged
