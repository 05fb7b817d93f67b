"""What a fault of one call means for the edit that it was made for."""

import datetime as dt
from dataclasses import replace

from runsadmin.errors import (
    ConnectionHeld,
    NoSlot,
    NotFound,
    NotSent,
    OutcomeUnknown,
    Rejected,
    RunActive,
    UpstreamError,
)
from runsadmin.models import ConnectionState, Edit, EditStatus
from runsadmin.services import gateway
from runsadmin.services.edits import active_runs, outcomes
from runsadmin.services.edits.claims import Claim
from runsadmin.services.edits.outcomes import Outcome
from runsadmin.services.probes import Conclusion


def fetch_failed(claim: Claim, error: UpstreamError) -> Outcome:
    """Nothing was sent."""
    match error:
        case ConnectionHeld():
            return outcomes.hold(claim, gateway.why_held(error), error)
        case _ if error.redirect:
            return outcomes.hold(claim, gateway.why_held(error), error)
        case Rejected():
            return outcomes.end(claim, EditStatus.REJECTED, str(error), error=error)
        case NoSlot():
            pause = dt.timedelta(seconds=error.retry_after or 0)
            return outcomes.wait(claim, Edit.WaitReason.RETRY, str(error), pause)
        case _:
            return outcomes.try_later(claim, error)


def write_failed(claim: Claim, error: UpstreamError) -> Outcome:
    """Upstream said no, or it may have been kept."""
    match error:
        case ConnectionHeld():
            return outcomes.hold(claim, gateway.why_held(error), error)
        case OutcomeUnknown():
            return outcomes.lose(claim, error)
        case _ if error.redirect:
            return outcomes.hold(claim, gateway.why_held(error), error)
        case RunActive():
            return active_runs.wait(claim, str(error), error=error)
        case NotSent():
            return outcomes.try_later(claim, error)
        case _:
            return outcomes.end(claim, EditStatus.REJECTED, str(error), error=error)


def reconcile_failed(claim: Claim, error: UpstreamError) -> Outcome:
    """It stays unknown."""
    return outcomes.look_again(claim, str(error))


def after_probes(claim: Claim, error: UpstreamError, conclusion: Conclusion) -> Outcome:
    """What an error means once it is known how far it reaches."""
    if conclusion.run_is_missing:
        told = f"Upstream no longer has this run: {error}"
        outcome = outcomes.end(claim, EditStatus.REJECTED, told, error=error)
        return replace(outcome, run_is_missing=True, thread_is_missing=conclusion.thread_is_missing)
    if claim.is_unknown:
        return reconcile_failed(claim, error)
    if conclusion.error is not None:
        return fetch_failed(claim, conclusion.error)
    if isinstance(error, NotFound):
        return outcomes.hold(claim, f"Everything answers 404: {error}", error)
    if conclusion.effect.hold == ConnectionState.Hold.UNREACHABLE:
        return outcomes.hold(claim, conclusion.effect.detail, error)
    return outcomes.try_later(claim, error)
