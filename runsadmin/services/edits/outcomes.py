"""The outcomes of attempts at edits, as values. `storing` writes them."""

import datetime as dt
import random
from dataclasses import dataclass, field

from runsadmin import conf
from runsadmin.errors import OutcomeUnknown, UpstreamError
from runsadmin.models import Edit, EditStatus
from runsadmin.services.edits.claims import Claim
from runsadmin.services.gateway import TimedResponse
from runsadmin.upstream.records import RunRecord

FIRST_BACKOFF, LAST_BACKOFF = 1.0, 300.0
# The interval between checks of a held connection or an active run.
WAIT_FOR_RUN = dt.timedelta(seconds=5)
WAIT_FOR_CONNECTION = dt.timedelta(seconds=10)
# Seconds until a lost response is first reconciled, and the maximum pause between two attempts.
FIRST_RECONCILE, LAST_RECONCILE = 1.0, 60.0


@dataclass(frozen=True)
class Outcome:
    """The new state of a claimed edit; storing it releases the claim. `timed` is the Run that showed it.

    If there is no `pause` until the next attempt, the edit has ended.
    """

    claim: Claim
    status: EditStatus
    detail: str
    timed: TimedResponse[RunRecord] | None = None
    pause: dt.timedelta | None = None
    values: dict[str, object] = field(default_factory=dict)
    pauses_bulk_edit: str = ""  # The reason. Empty: it does not pause it.
    has_written: bool = False  # Whether upstream has just accepted a write for it.
    run_is_missing: bool = False
    thread_is_missing: bool = False


def finish(
    claim: Claim,
    status: EditStatus,
    detail: str,
    timed: TimedResponse[RunRecord] | None = None,
    *,
    error: UpstreamError | None = None,
    **values: object,
) -> Outcome:
    return Outcome(claim, status, detail, timed, None, {"wait_reason": "", **_response_columns(timed, error), **values})


def reschedule(
    claim: Claim,
    reason: Edit.WaitReason,
    detail: str,
    pause: dt.timedelta,
    timed: TimedResponse[RunRecord] | None = None,
    *,
    error: UpstreamError | None = None,
    **values: object,
) -> Outcome:
    """Nothing was sent: the edit is pending again."""
    nothing_sent = {"before": None, "intended": None, "sent_at": None}
    values = {"wait_reason": reason, **nothing_sent, **_response_columns(timed, error), **values}
    return Outcome(claim, EditStatus.PENDING, detail, timed, pause, values)


def reschedule_held(claim: Claim, detail: str, error: UpstreamError | None = None) -> Outcome:
    return reschedule(claim, Edit.WaitReason.HELD, detail, WAIT_FOR_CONNECTION, error=error)


def retry_later(claim: Claim, error: UpstreamError) -> Outcome:
    attempts = claim.edit.attempts + 1
    if attempts >= conf.max_attempts():
        return finish(claim, EditStatus.FAILED, f"Tried {attempts} times. {error}", error=error, attempts=attempts)
    pause = dt.timedelta(seconds=backoff(attempts) if error.retry_after is None else error.retry_after)
    return reschedule(claim, Edit.WaitReason.RETRY, str(error), pause, error=error, attempts=attempts)


def mark_unknown(claim: Claim, error: OutcomeUnknown) -> Outcome:
    detail = f"The response was lost, so the write may have happened. {error}"
    pause = dt.timedelta(seconds=FIRST_RECONCILE)
    return Outcome(
        claim, EditStatus.UNKNOWN, detail, None, pause, {"wait_reason": "", **_response_columns(None, error)}
    )


def still_unknown(claim: Claim, detail: str, pause: dt.timedelta) -> Outcome:
    return Outcome(claim, EditStatus.UNKNOWN, detail, None, pause)


def reconcile_pause(claim: Claim, now: dt.datetime) -> dt.timedelta:
    """The pause before the next reconcile, which grows with the time since the write was sent."""
    since = (now - claim.edit.sent_at).total_seconds() if claim.edit.sent_at else 0
    return dt.timedelta(seconds=min(max(FIRST_RECONCILE, since / 2), LAST_RECONCILE))


def backoff(attempts: int) -> float:
    return float(min(FIRST_BACKOFF * 2 ** (attempts - 1), LAST_BACKOFF)) * random.uniform(0.5, 1.0)  # noqa: S311


def _response_columns(timed: TimedResponse[RunRecord] | None, error: UpstreamError | None) -> dict[str, object]:
    if timed is not None:
        return {"http_status": timed.response.http_status, "upstream_request_id": timed.response.request_id}
    if error is not None:
        return {"http_status": error.http_status, "upstream_request_id": error.request_id}
    return {}
