"""What becomes of an edit, as values, and how they are kept: together with the Run that told it, if we still may."""

import datetime as dt
import logging
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from django.db import transaction

from runsadmin import conf
from runsadmin.errors import OutcomeUnknown, UpstreamError
from runsadmin.models import Edit, EditStatus
from runsadmin.models.edit import ENDED, EditQuerySet
from runsadmin.services import clock, runs
from runsadmin.services.edits import rewrites
from runsadmin.services.edits.claims import Claim, release, write
from runsadmin.services.gateway import TimedResponse
from runsadmin.upstream.records import RunRecord

logger = logging.getLogger("runsadmin.services.edits")

FIRST_BACKOFF, LAST_BACKOFF = 1.0, 300.0
# How often a locked run or a held connection is looked at again.
WAIT_FOR_RUN = dt.timedelta(seconds=5)
WAIT_FOR_CONNECTION = dt.timedelta(seconds=10)
# The first look after a lost answer, and the longest pause between two.
FIRST_RECONCILE, LAST_RECONCILE = 1.0, 60.0


@dataclass(frozen=True)
class Outcome:
    """What the row of a claim is to become. It gives the claim back. `seen` is the Run that told it."""

    claim: Claim
    status: EditStatus
    detail: str
    timed: TimedResponse[RunRecord] | None = None
    # When the next attempt is due, from now on. None: never, it has ended.
    pause: dt.timedelta | None = None
    values: dict[str, object] = field(default_factory=dict)
    # Why its bulk edit pauses. Empty: it does not.
    pauses_bulk_edit: str = ""
    has_written: bool = False  # Whether upstream took a write for it just now.
    run_is_missing: bool = False
    thread_is_missing: bool = False


def end(
    claim: Claim,
    status: EditStatus,
    detail: str,
    timed: TimedResponse[RunRecord] | None = None,
    *,
    error: UpstreamError | None = None,
    **values: object,
) -> Outcome:
    return Outcome(claim, status, detail, timed, None, {"wait_reason": "", **_told_by(timed, error), **values})


def wait(
    claim: Claim,
    waiting: Edit.WaitReason,
    detail: str,
    pause: dt.timedelta,
    timed: TimedResponse[RunRecord] | None = None,
    *,
    error: UpstreamError | None = None,
    **values: object,
) -> Outcome:
    """Nothing was sent: back to pending."""
    nothing_sent = {"before": None, "intended": None, "sent_at": None}
    values = {"wait_reason": waiting, **nothing_sent, **_told_by(timed, error), **values}
    return Outcome(claim, EditStatus.PENDING, detail, timed, pause, values)


def hold(claim: Claim, detail: str, error: UpstreamError | None = None) -> Outcome:
    return wait(claim, Edit.WaitReason.HELD, detail, WAIT_FOR_CONNECTION, error=error)


def try_later(claim: Claim, error: UpstreamError) -> Outcome:
    attempts = claim.edit.attempts + 1
    if attempts >= conf.max_attempts():
        return end(claim, EditStatus.FAILED, f"Tried {attempts} times. {error}", error=error, attempts=attempts)
    pause = dt.timedelta(seconds=backoff(attempts) if error.retry_after is None else error.retry_after)
    return wait(claim, Edit.WaitReason.RETRY, str(error), pause, error=error, attempts=attempts)


def lose(claim: Claim, error: OutcomeUnknown) -> Outcome:
    detail = f"The answer was lost, so it may have been kept. {error}"
    pause = dt.timedelta(seconds=FIRST_RECONCILE)
    return Outcome(claim, EditStatus.UNKNOWN, detail, None, pause, {"wait_reason": "", **_told_by(None, error)})


def look_again(claim: Claim, detail: str, pause: dt.timedelta | None = None) -> Outcome:
    """Still unknown. Unless it is told, the pause grows with the time since it was sent."""
    if pause is None:
        since = (clock.now() - claim.edit.sent_at).total_seconds() if claim.edit.sent_at else 0
        pause = dt.timedelta(seconds=min(max(FIRST_RECONCILE, since / 2), LAST_RECONCILE))
    return Outcome(claim, EditStatus.UNKNOWN, detail, None, pause)


def backoff(attempts: int) -> float:
    return float(min(FIRST_BACKOFF * 2 ** (attempts - 1), LAST_BACKOFF)) * random.uniform(0.5, 1.0)  # noqa: S311


def _told_by(timed: TimedResponse[RunRecord] | None, error: UpstreamError | None) -> dict[str, object]:
    if timed is not None:
        return {"http_status": timed.response.http_status, "upstream_request_id": timed.response.request_id}
    if error is not None:
        return {"http_status": error.http_status, "upstream_request_id": error.request_id}
    return {}


# --- Keeping them


def keep(outcomes: Sequence[Outcome]) -> None:
    """Stores outcomes and the Runs that told them in one transaction. A claim that was lost stores no outcome."""
    kept = Kept(outcomes)
    with transaction.atomic(durable=True):
        kept.write()
    kept.tell()


class Kept:
    """Outcomes that are about to be stored: what needs no lock is done before the transaction that others wait for."""

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        self.outcomes = outcomes
        now = clock.now()
        self._rows: dict[tuple[EditStatus, tuple[str, ...]], list[tuple[Claim, dict[str, object]]]] = defaultdict(list)
        for outcome in outcomes:
            values = {
                "status": outcome.status,
                "detail": outcome.detail,
                "next_attempt_at": None if outcome.pause is None else now + outcome.pause,
                "finished_at": now if outcome.status in ENDED else None,
                "claim_token": None,
                "claimed_until": None,
                **outcome.values,
            }
            self._rows[outcome.status, tuple(values)].append((outcome.claim, values))
        self._runs = runs.compare(
            (outcome.claim.edit.run.thread, outcome.timed) for outcome in outcomes if outcome.timed
        )
        self._written = 0

    def write(self) -> None:
        """In the transaction that is open."""
        rewrites.pause_bulk_edits(
            (outcome.claim.edit.bulk_edit_id, outcome.pauses_bulk_edit)
            for outcome in self.outcomes
            if outcome.pauses_bulk_edit and outcome.claim.edit.bulk_edit_id is not None
        )
        for (status, _), rows in self._rows.items():
            self._written += write(rows, sources=EditQuerySet.sources(status))
        self._runs.write()  # True whoever holds the claim.
        if gone := [outcome.claim.edit.run for outcome in self.outcomes if outcome.run_is_missing]:
            runs.mark_missing(*(run.pk for run in gone))
        if gone_threads := {outcome.claim.edit.run.thread_id for outcome in self.outcomes if outcome.thread_is_missing}:
            runs.mark_thread_missing(*gone_threads)

    def tell(self) -> None:
        """The log, once it is committed."""
        for outcome in self.outcomes:
            if outcome.status in ENDED:
                outcome.claim.step("stored")
        if self._written < len(self.outcomes):
            logger.warning("%s of these edits were claimed by somebody else before their outcomes were stored: %s",
                len(self.outcomes) - self._written, [outcome.claim.edit.pk for outcome in self.outcomes])  # fmt: skip


def broken(claim: Claim, *, is_unsent: bool = False) -> None:
    """Gives a claim back after an error of our own, which counts as an attempt: it must not come back for ever.

    With `is_unsent` nothing has left, so that it is pending even where what was intended is written down.
    """
    if is_unsent:
        claim.row.filter(status=EditStatus.SENDING).update(before=None, intended=None, sent_at=None)
    attempts = claim.edit.attempts + 1
    claim.row.update(attempts=attempts)
    if attempts >= conf.max_attempts() and claim.edit.status != EditStatus.UNKNOWN:
        claim.row.filter(intended__isnull=True).transition_to(
            EditStatus.FAILED,
            detail=f"Tried {attempts} times. It ended in an error of our own, which the log tells.",
            finished_at=clock.now(),
            claim_token=None,
            claimed_until=None,
            next_attempt_at=None,
            wait_reason="",
        )
    release(claim.row, dt.timedelta(seconds=backoff(attempts)))
