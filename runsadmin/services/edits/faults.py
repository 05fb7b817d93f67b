"""What a fault of one call means for the edit that it was made for."""

import datetime as dt

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
from runsadmin.models import Edit, EditStatus
from runsadmin.services import connections, runs
from runsadmin.services.edits import active_runs, outcomes
from runsadmin.services.edits.claims import Claim
from runsadmin.services.edits.outcomes import Outcome
from runsadmin.services.probes import Reach


def fetch_failed(claim: Claim, error: UpstreamError) -> Outcome:
    """Nothing was sent."""
    match error:
        case ConnectionHeld():
            return outcomes.hold(claim, connections.why_held(error), error)
        case _ if error.redirect:
            return outcomes.hold(claim, connections.why_held(error), error)
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
            return outcomes.hold(claim, connections.why_held(error), error)
        case OutcomeUnknown():
            return outcomes.lose(claim, error)
        case _ if error.redirect:
            return outcomes.hold(claim, connections.why_held(error), error)
        case RunActive():
            return active_runs.wait(claim, str(error), error=error)
        case NotSent():
            return outcomes.try_later(claim, error)
        case _:
            return outcomes.end(claim, EditStatus.REJECTED, str(error), error=error)


def reconcile_failed(claim: Claim, error: UpstreamError) -> Outcome:
    """It stays unknown."""
    return outcomes.look_again(claim, str(error))


def after_probes(claim: Claim, error: UpstreamError, reach: Reach) -> Outcome:
    """What an error means once it is known how far it reaches. Marks a missing run, or holds the connection."""
    is_unknown = claim.is_unknown
    try:
        if runs.apply_reach(claim.edit.run, error, reach):
            return outcomes.end(claim, EditStatus.REJECTED, f"Upstream no longer has this run: {error}", error=error)
    except UpstreamError as probe_error:
        return reconcile_failed(claim, error) if is_unknown else fetch_failed(claim, probe_error)
    if is_unknown:
        return reconcile_failed(claim, error)
    if isinstance(error, NotFound):
        return outcomes.hold(claim, f"Everything answers 404: {error}", error)
    if reach.is_outage:
        return outcomes.hold(claim, f"No request gets through. {error}", error)
    return outcomes.try_later(claim, error)
