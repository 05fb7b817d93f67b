"""The outcome of an edit or a bulk edit, as text for users. Nothing is called saved unless it is."""

from dataclasses import dataclass

from runsadmin.models import BulkEdit, BulkEditStatus, Edit, EditStatus
from runsadmin.models.edit import UNSETTLED
from runsadmin.services.bulk_edits import Progress

S, B = EditStatus, BulkEditStatus

TEXTS: dict[EditStatus, tuple[str, str]] = {
    S.PLANNED: ("Planned", "Part of a plan that has not been applied yet."),
    S.PENDING: ("Not sent yet", "Nothing has changed upstream so far. This page says what the edit waits for."),
    S.SENDING: ("Being sent", "Upstream has not responded yet."),
    S.UNKNOWN: (
        "Outcome unknown",
        "The response was lost, so upstream may or may not have applied the edit. A worker will check.",
    ),
    S.APPLIED: ("Applied", "Upstream has exactly what this edit intended."),
    S.DIFFERS: ("Upstream returned something else", "The edit was sent, but upstream returned the values below."),
    S.CONFLICT: ("Conflict: nothing was sent", "Someone else changed the same keys before the edit was sent."),
    S.REJECTED: ("Rejected: nothing was changed", "It will not be retried."),
    S.FAILED: ("Failed: nothing was changed", "The last permitted attempt failed. You can retry the edit."),
    S.SKIPPED: ("Skipped: nothing was sent", "There was nothing to change, or the plan left this run out."),
    S.CANCELLED: ("Cancelled", "It was cancelled before it was sent."),
}


@dataclass(frozen=True)
class Outcome:
    title: str
    explanation: str


def of(edit: Edit) -> Outcome:
    title, explanation = TEXTS[EditStatus(edit.status)]
    if edit.status == S.CONFLICT and edit.after is not None:
        title = "Conflict: upstream has a third value"
        explanation = "The response was lost, and a later fetch found neither the old value nor the intended one."
    if edit.status == S.PENDING and edit.wait_reason == Edit.WaitReason.ACTIVE_RUN:
        explanation = (
            "Upstream refused the change because the run is active. It will be sent again once the run has ended. If "
            "that takes too long, the edit fails and can be retried. Nothing has changed upstream so far."
        )
    if edit.awaits_release:
        explanation = RESTORED if edit.status == S.PENDING else f"{explanation} {RESTORED_UNKNOWN}"
    return Outcome(title, explanation)


RESTORED = (
    "It comes from a backup that was restored, and upstream may have newer values. Release it to send it, or cancel "
    "it. A newer value is not overwritten."
)
RESTORED_UNKNOWN = "It comes from a backup that was restored, so it is not sent again until a user releases it."
BULK_TEXTS: dict[BulkEditStatus, tuple[str, str]] = {
    B.PLANNING: ("Planning", "Each selected run is checked in the mirror. Nothing is sent."),
    B.PLANNED: ("Plan: nothing has been sent", "Applying it changes the runs below and no others."),
    B.QUEUED: ("Waiting for a worker", "A worker starts it within seconds."),
    B.RUNNING: ("Being sent", "Each run is fetched, then changed, and upstream's response is checked."),
    B.PAUSED: ("Paused", "Nothing more is sent until a user resumes the bulk edit."),
    B.COMPLETED: ("All edits are done", ""),
    B.CANCELLED: ("Cancelled", "Edits that were not sent will not be sent."),
    B.FAILED: ("Planning failed", "Nothing has been sent."),
    B.EXPIRED: ("The plan has expired", "Nothing has been sent, and it can no longer be applied."),
}

_CHANGED = (S.APPLIED, S.DIFFERS)
_NOT_CHANGED = (S.CONFLICT, S.REJECTED, S.FAILED, S.CANCELLED)


@dataclass(frozen=True)
class BulkOutcome(Outcome):
    """How many runs were changed, how many were not, and how many are still open, each as text."""

    changed: str
    not_changed: str
    still_open: str


def of_bulk(bulk_edit: BulkEdit, progress: Progress) -> BulkOutcome:
    def described(statuses: tuple[EditStatus, ...]) -> str:
        words = {status: status.label.lower() for status in statuses} | {S.CANCELLED: "cancelled before sending"}
        counts = [(progress.count(status), words[status]) for status in statuses]
        return ", ".join(f"{count:,} {word}" for count, word in counts if count)

    title, explanation = BULK_TEXTS[BulkEditStatus(bulk_edit.status)]
    if bulk_edit.is_paused_for_rewrites:
        title = "Paused: upstream changed keys that no edit touched"
    return BulkOutcome(
        title, explanation, described(_CHANGED), described(_NOT_CHANGED), described((S.PLANNED, *UNSETTLED))
    )
