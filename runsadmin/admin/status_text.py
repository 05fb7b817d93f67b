"""What became of an edit or a bulk edit, in words for the person who made it. Nothing is called saved that is not."""

from dataclasses import dataclass

from runsadmin.models import BulkEdit, BulkEditStatus, Edit, EditStatus
from runsadmin.models.edit import UNSETTLED
from runsadmin.services.bulk_edits import Progress

S, B = EditStatus, BulkEditStatus

WORDS: dict[EditStatus, tuple[str, str]] = {
    S.PLANNED: ("Planned", "Part of a plan that nobody has applied yet."),
    S.PENDING: ("Not sent yet", "It goes on by itself. Nothing has changed upstream so far."),
    S.SENDING: ("Being sent", "Upstream has not answered yet."),
    S.UNKNOWN: (
        "Nobody knows yet",
        "It was sent, but the answer was lost, so upstream may have kept it or not. We look before sending again.",
    ),
    S.APPLIED: ("Applied", "Upstream has exactly what this edit asked for."),
    S.DIFFERS: ("Upstream made something else of it", "It was sent, and upstream returned other values. See below."),
    S.CONFLICT: ("Conflict: nothing was sent", "Somebody else changed the same keys after you looked."),
    S.REJECTED: ("Rejected: nothing was changed", "It will not be tried again."),
    S.FAILED: ("Failed: nothing was changed", "It was tried as often as it may be. You can have it tried again."),
    S.SKIPPED: ("Skipped: nothing was sent", "There was nothing to do, or its plan left it out."),
    S.CANCELLED: ("Cancelled", "It was taken back before it was sent."),
}


@dataclass(frozen=True)
class Outcome:
    title: str
    explanation: str


def of(edit: Edit) -> Outcome:
    title, explanation = WORDS[EditStatus(edit.status)]
    if edit.status == S.CONFLICT and edit.after is not None:
        title = "Conflict: what is there now is neither"
        explanation = "The answer was lost, and a later look found something else than before or than you asked for."
    if edit.status == S.PENDING and edit.wait_reason == Edit.WaitReason.ACTIVE_RUN:
        explanation = (
            "Upstream refused the change while the run is active. It is sent when the run has ended. Where the wait is "
            "over before that, the edit fails, and can be retried. Nothing has changed upstream so far."
        )
    return Outcome(title, explanation)


BULK_WORDS: dict[BulkEditStatus, tuple[str, str]] = {
    B.PLANNING: ("The plan is being made", "Every run that was chosen is looked at here; nothing is sent."),
    B.PLANNED: ("A plan: nothing has been sent", "It changes the runs below and no others, when somebody applies it."),
    B.QUEUED: ("Waiting for a worker", "A worker takes it up within seconds, when one is running."),
    B.RUNNING: ("Being sent", "Each run is looked at, changed, and its answer is compared."),
    B.PAUSED: ("Paused", "Nothing more is sent until somebody resumes it."),
    B.COMPLETED: ("Every edit has its outcome", ""),
    B.CANCELLED: ("Cancelled", "What was not sent by then never will be."),
    B.FAILED: ("The plan could not be made", "Nothing has been sent."),
    B.EXPIRED: ("The plan has expired", "Nothing has been sent, and it can no longer be applied."),
}

_CHANGED = (S.APPLIED, S.DIFFERS)
_NOT_CHANGED = (S.CONFLICT, S.REJECTED, S.FAILED, S.CANCELLED)


@dataclass(frozen=True)
class BulkOutcome(Outcome):
    """How many runs were changed, how many were not, and of how many that is still open, each in words."""

    changed: str
    not_changed: str
    still_open: str


def of_bulk(bulk_edit: BulkEdit, progress: Progress) -> BulkOutcome:
    def told(statuses: tuple[EditStatus, ...]) -> str:
        words = {status: status.label.lower() for status in statuses} | {S.CANCELLED: "taken back unsent"}
        counts = [(progress.count(status), words[status]) for status in statuses]
        return ", ".join(f"{count:,} {word}" for count, word in counts if count)

    title, explanation = BULK_WORDS[BulkEditStatus(bulk_edit.status)]
    if bulk_edit.is_paused_for_rewrites:
        title = "Paused: upstream changes keys that were not to change"
    return BulkOutcome(title, explanation, told(_CHANGED), told(_NOT_CHANGED), told((S.PLANNED, *UNSETTLED)))
