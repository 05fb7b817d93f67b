"""What a fault of one call means for the edit that it was made for."""

import datetime as dt

from runsadmin.errors import Busy, Held, NotFound, NotSent, OutcomeUnknown, Rejected, RunActive, UpstreamError
from runsadmin.models import Edit, EditStatus
from runsadmin.services import clock, connections, runs
from runsadmin.services.edits import outcomes
from runsadmin.services.edits.claims import Claim
from runsadmin.services.edits.outcomes import Outcome
from runsadmin.services.probes import Reach
from runsadmin.services.runs import Seen
from runsadmin.upstream.records import RunRecord


def fetch_failed(claim: Claim, error: UpstreamError) -> Outcome:
    """Nothing was sent."""
    match error:
        case Held():
            return outcomes.hold(claim, connections.why_held(error), error)
        case _ if error.redirect:
            return outcomes.hold(claim, connections.why_held(error), error)
        case Rejected():
            return outcomes.end(claim, EditStatus.REJECTED, str(error), error=error)
        case Busy():
            pause = dt.timedelta(seconds=error.retry_after or 0)
            return outcomes.wait(claim, Edit.Waiting.RETRY, str(error), pause)
        case _:
            return outcomes.try_later(claim, error)


def write_failed(claim: Claim, error: UpstreamError) -> Outcome:
    """Upstream said no, or it may have been kept."""
    match error:
        case Held():
            return outcomes.hold(claim, connections.why_held(error), error)
        case OutcomeUnknown():
            return outcomes.lose(claim, error)
        case _ if error.redirect:
            return outcomes.hold(claim, connections.why_held(error), error)
        case RunActive():
            return wait_for_run(claim, str(error), error=error)
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


def wait_for_run(
    claim: Claim, detail: str, seen: Seen[RunRecord] | None = None, *, error: UpstreamError | None = None
) -> Outcome:
    """A single edit waits until the run has ended; one of a bulk edit as long as that was told to."""
    bulk_edit = claim.edit.bulk_edit
    if bulk_edit is not None and (bulk_edit.active_until is None or bulk_edit.active_until <= clock.now()):
        return outcomes.end(claim, EditStatus.FAILED, f"The run is active. {detail}", seen, error=error)
    return outcomes.wait(claim, Edit.Waiting.ACTIVE_RUN, detail, outcomes.WAIT_FOR_RUN, seen, error=error)
