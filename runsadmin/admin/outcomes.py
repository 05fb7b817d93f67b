"""What became of an edit, in words for the person who made it. Nothing is called saved that is not."""

from dataclasses import dataclass

from runsadmin.models import Edit, EditStatus

S, W = EditStatus, Edit.Waiting

WORDS: dict[EditStatus, tuple[str, str]] = {
    S.PLANNED: ("Planned", "Part of a plan that nobody has applied yet."),
    S.PENDING: ("Not sent yet", "It goes on in the background; nothing has changed upstream so far."),
    S.SENDING: ("Being sent", "Upstream has not answered yet."),
    S.UNKNOWN: (
        "Nobody knows yet",
        "It was sent, but the answer was lost, so upstream may have kept it or not. We look before sending again.",
    ),
    S.APPLIED: ("Applied", "Upstream has exactly what this edit asked for."),
    S.DIFFERS: ("Upstream made something else of it", "It was sent, and the answer shows other metadata. See below."),
    S.CONFLICT: ("Conflict: nothing was sent", "Somebody else changed the same keys after you looked."),
    S.REJECTED: ("Rejected: nothing was changed", "It will not be tried again."),
    S.FAILED: ("Failed: nothing was changed", "It was tried as often as it may be. You can have it tried again."),
    S.SKIPPED: ("Skipped", "There was nothing to do."),
    S.CANCELLED: ("Cancelled", "It was taken back before it was sent."),
}

WAITS: dict[str, str] = {
    W.TURN: "It waits for its turn: other edits of this run come first, or a process is about to take it up.",
    W.RETRY: "The last attempt did not get through. It is tried again.",
    W.ACTIVE_RUN: "Upstream refuses changes while the run is active. It is sent when the run has ended.",
    W.HELD: "The connection is held, so nothing is sent. It goes on when the connection is released.",
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
    if edit.status == S.PENDING:
        explanation = f"{WAITS[edit.waiting]} Nothing has changed upstream so far."
    return Outcome(title, explanation)
