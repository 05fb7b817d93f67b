"""The outcomes of attempts at edits, as values. `storing` writes them."""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from runsadmin import conf
from runsadmin.errors import UpstreamError
from runsadmin.models import Edit, EditStatus
from runsadmin.services.edits.claims import Claim, backoff
from runsadmin.services.gateway import TimedResponse
from runsadmin.upstream.records import RunRecord

# The interval between checks of a held connection.
WAIT_FOR_CONNECTION = dt.timedelta(seconds=10)
AT_ONCE = dt.timedelta()


@dataclass(frozen=True)
class Outcome:
    """The new state of a claimed edit; storing it releases the claim.

    `timed` is the Run that led to this state, and `error` is the error that did. Without a `pause` before the next
    attempt, the edit has ended. `values` are other columns to set. The intent of a pending edit is cleared, since
    nothing was sent.
    """

    claim: Claim
    status: EditStatus
    detail: str
    timed: TimedResponse[RunRecord] | None = None
    error: UpstreamError | None = None
    pause: dt.timedelta | None = None
    wait_reason: Edit.WaitReason = Edit.WaitReason.TURN
    values: dict[str, object] = field(default_factory=dict)
    pauses_bulk_edit: str = ""  # Why the edit pauses its bulk edit. Empty if it does not.
    has_written: bool = False  # Whether upstream has just accepted a write of this edit.
    run_is_missing: bool = False
    thread_is_missing: bool = False


def together(outcomes: list[Outcome]) -> list[Outcome]:
    """Makes edits that shared a fetch due at the same time, so that they share the next fetch as well."""
    longest = max((outcome.pause for outcome in outcomes if outcome.pause is not None), default=None)
    return [outcome if outcome.pause is None else replace(outcome, pause=longest) for outcome in outcomes]


def returned(claims: Iterable[Claim], pause: dt.timedelta = AT_ONCE) -> list[Outcome]:
    """The outcomes if nothing was sent, and not because of the edits: they are as before they were claimed."""
    return [
        Outcome(
            claim,
            EditStatus.UNKNOWN if claim.is_unknown else EditStatus.PENDING,
            claim.edit.detail,
            pause=pause,
            wait_reason=Edit.WaitReason(claim.edit.wait_reason),
        )
        for claim in claims
    ]


def not_permitted(claim: Claim) -> Outcome:
    detail = f"The account {claim.edit.actor.get_username()!r} may no longer edit metadata."
    return Outcome(claim, EditStatus.REJECTED, detail)


def held(claim: Claim, detail: str, error: UpstreamError | None = None) -> Outcome:
    """The outcome if nothing was sent because the connection is held."""
    return Outcome(claim, EditStatus.PENDING, detail, None, error, WAIT_FOR_CONNECTION, Edit.WaitReason.HELD)


def retry_later(claim: Claim, error: UpstreamError) -> Outcome:
    """The outcome of a failed attempt: the edit is pending again, or failed if this was the last attempt."""
    attempts = claim.edit.attempts + 1
    values: dict[str, object] = {"attempts": attempts}
    if attempts >= conf.max_attempts():
        return Outcome(claim, EditStatus.FAILED, f"Tried {attempts} times. {error}", error=error, values=values)
    pause = backoff(attempts) if error.retry_after is None else dt.timedelta(seconds=error.retry_after)
    retry = Edit.WaitReason.RETRY
    return Outcome(claim, EditStatus.PENDING, str(error), None, error, pause, retry, values)
