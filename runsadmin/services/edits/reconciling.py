"""Determines afterwards whether an unknown write happened. Never sends."""

import logging

from runsadmin.errors import NotFound, UpstreamError
from runsadmin.models import Edit
from runsadmin.services import clock, connections, gateway, probes
from runsadmin.services.clock import ClockBounds
from runsadmin.services.edits import claims, classifying, outcomes, storing
from runsadmin.services.edits.claims import Claim
from runsadmin.services.edits.outcomes import Outcome

logger = logging.getLogger("runsadmin.services.edits")


def reconcile(edit: Edit) -> Edit:
    """Fetches the run of an unknown edit and compares it. Returns the edit as it is then."""
    if claim := claims.claim_unknown(edit):
        with claim.log_context():
            claim.log_step("reconciling")
            try:
                storing.store([_attempt(claim)])
            except Exception:
                logger.exception("Reconciling edit %s failed with an internal error.", edit.pk)
                storing.record_crash(claim)
                raise
    return claims.reload(edit)


def _attempt(claim: Claim) -> Outcome:
    if reason := connections.hold_reason(claim.alias, is_write=False):
        return outcomes.still_unknown(claim, reason, outcomes.WAIT_FOR_CONNECTION)
    run = claim.edit.run
    try:
        connections.wait_for_slots(claim.alias, 1)
        timed = gateway.fetch_run(claim.alias, run.thread.upstream_id, run.upstream_id, ClockBounds())
    except UpstreamError as error:
        connections.apply_error(claim.alias, error)
        if isinstance(error, NotFound):
            conclusion = probes.find_out(run, error)
            return classifying.error_after_probes(claim, error, conclusion, clock.now())
        return classifying.fetch_error(claim, error, clock.now())
    claim.log_step("fetched again")
    return classifying.reconcile_response(claim, timed)
