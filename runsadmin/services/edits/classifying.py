"""What a response or an error means for its edit. Pure functions."""

import datetime as dt
from collections.abc import Mapping

from runsadmin import conf
from runsadmin.errors import (
    ConnectionHeld,
    NoSlot,
    NotFound,
    NotSent,
    OutcomeUnknown,
    RunActive,
    UpstreamError,
)
from runsadmin.models import ConnectionState, Edit, EditStatus
from runsadmin.services import gateway
from runsadmin.services.edits import active_runs, outcomes, rewrites
from runsadmin.services.edits.claims import Claim
from runsadmin.services.edits.deciding import Intent
from runsadmin.services.edits.outcomes import Outcome
from runsadmin.services.edits.undo import skipped_keys_message
from runsadmin.services.gateway import TimedResponse
from runsadmin.services.probes import Conclusion
from runsadmin.upstream.records import RunRecord

# The pause before a lost response is first reconciled, and the longest pause between two attempts.
FIRST_RECONCILE, LAST_RECONCILE = dt.timedelta(seconds=1), dt.timedelta(seconds=60)

# --- Responses


def write_response(intent: Intent, timed: TimedResponse[RunRecord]) -> Outcome:
    """The outcome of a successful write."""
    record, response = timed.value, timed.response
    if not record.shows_metadata:
        error = OutcomeUnknown(
            "The response does not show the metadata.",
            http_status=response.http_status,
            request_id=response.request_id,
        )
        return _unknown(intent.claim, error)
    edit, after = intent.claim.edit, record.metadata
    rewrite = rewrites.of(edit, intent.intended, after)
    return Outcome(
        intent.claim,
        EditStatus.DIFFERS if rewrite else EditStatus.APPLIED,
        f"{rewrites.detail(rewrite)} {intent.detail}".strip(),
        timed,
        values={"after": after, "race_window": dt.timedelta(seconds=response.sent - intent.fetched_at)},
        has_written=True,
        pauses_bulk_edit=rewrites.why_paused(edit, rewrite, intent.intended, after),
    )


def reconcile_response(claim: Claim, timed: TimedResponse[RunRecord]) -> Outcome:
    """Compares the old, intended and current values of the keys that the patch touches."""
    edit = claim.edit
    assert edit.before is not None
    assert edit.intended is not None
    assert edit.sent_at is not None
    if not timed.value.shows_metadata:
        pause = _reconcile_pause(claim, timed.received_at)
        return still_unknown(claim, "The server does not show the metadata of this run.", pause)
    before, intended, now = edit.before, edit.intended, timed.value.metadata
    if _agree(now, intended, edit.patch.keys):
        since = rewrites.changed_since(rewrites.of(edit, intended, now))
        applied = "The response was lost; a later fetch showed that the edit was applied."
        detail = " ".join(filter(None, (applied, since, skipped_keys_message(edit.undoes, intended))))
        return Outcome(claim, EditStatus.APPLIED, detail, timed, values={"after": now})
    if not _agree(now, before, edit.patch.keys):
        detail = "The response was lost; a later fetch found neither the old values nor the intended ones."
        return Outcome(claim, EditStatus.CONFLICT, detail, timed, values={"after": now})
    settled_at = edit.sent_at + edit.run.connection_settings.timeout + conf.settling_time()
    if timed.requested_at < settled_at:
        # Check after the settling time: an earlier check would rarely be conclusive.
        pause = settled_at - timed.requested_at
        return still_unknown(claim, "The response was lost, and the write may still arrive.", pause)
    return outcomes.retry_later(
        claim, OutcomeUnknown("The response was lost; a later fetch showed that the write did not happen.")
    )


def _unknown(claim: Claim, error: OutcomeUnknown) -> Outcome:
    detail = f"The response was lost, so the write may have happened. {error}"
    return Outcome(claim, EditStatus.UNKNOWN, detail, error=error, pause=FIRST_RECONCILE)


def still_unknown(claim: Claim, detail: str, pause: dt.timedelta) -> Outcome:
    return Outcome(claim, EditStatus.UNKNOWN, detail, pause=pause)


def _reconcile_pause(claim: Claim, now: dt.datetime) -> dt.timedelta:
    """The pause before reconciling again. It grows with the time since the write was sent."""
    since = now - claim.edit.sent_at if claim.edit.sent_at else dt.timedelta()
    return min(max(FIRST_RECONCILE, since / 2), LAST_RECONCILE)


def _agree(one: Mapping[str, object], other: Mapping[str, object], keys: frozenset[str]) -> bool:
    return all(one.get(key) == other.get(key) for key in keys)


# --- Errors


def call_error(claim: Claim, error: UpstreamError, now: dt.datetime) -> Outcome:
    """The outcome of a failed fetch or write: nothing was sent, or the write may have happened, or it was refused.

    An unknown edit stays unknown.
    """
    if claim.is_unknown:
        return still_unknown(claim, str(error), _reconcile_pause(claim, now))
    match error:
        case OutcomeUnknown():
            return _unknown(claim, error)
        case ConnectionHeld():
            return outcomes.held(claim, gateway.why_held(error), error)
        case RunActive():
            return active_runs.wait(claim, str(error), now, error=error)
        case NoSlot():
            pause = dt.timedelta(seconds=error.retry_after or 0)
            return Outcome(claim, EditStatus.PENDING, str(error), pause=pause, wait_reason=Edit.WaitReason.RETRY)
        case NotSent():
            return outcomes.retry_later(claim, error)
        case _:
            return Outcome(claim, EditStatus.REJECTED, str(error), error=error)


def error_after_probes(claim: Claim, error: UpstreamError, conclusion: Conclusion, now: dt.datetime) -> Outcome:
    """The outcome of a failed fetch or write, once it is known how far the error reaches."""
    if conclusion.run_is_missing:
        detail = f"Upstream no longer has this run: {error}"
        is_gone = conclusion.thread_is_missing
        return Outcome(claim, EditStatus.REJECTED, detail, error=error, run_is_missing=True, thread_is_missing=is_gone)
    if claim.is_unknown:
        return call_error(claim, error, now)
    if conclusion.error is not None:
        return call_error(claim, conclusion.error, now)
    if isinstance(error, NotFound):
        return outcomes.held(claim, f"Everything returns 404: {error}", error)
    if conclusion.effect.hold == ConnectionState.Hold.UNREACHABLE:
        return outcomes.held(claim, conclusion.effect.detail, error)
    return outcomes.retry_later(claim, error)
