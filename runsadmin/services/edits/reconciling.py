"""Determines afterwards whether an unknown write happened. Never sends."""

from runsadmin.errors import NotFound, UpstreamError
from runsadmin.models import Edit
from runsadmin.services import clock, connections, gateway, probes
from runsadmin.services.clock import ClockBounds
from runsadmin.services.edits import claims, classifying, storing
from runsadmin.services.edits.claims import Claim
from runsadmin.services.edits.outcomes import WAIT_FOR_CONNECTION, Outcome


def reconcile(edit: Edit) -> Edit:
    """Fetches the run of an unknown edit and compares it. Returns the edit as it is then."""
    if claim := claims.claim_unknown(edit):
        with claims.processing(claim):
            claim.log_step("reconciling")
            storing.store([_attempt(claim)])
    return claims.reload(edit)


def _attempt(claim: Claim) -> Outcome:
    run = claim.edit.run
    if reason := connections.hold_reason(run.connection, is_write=False):
        return classifying.still_unknown(claim, reason, WAIT_FOR_CONNECTION)
    try:
        connections.wait_for_slots(run.connection_settings, 1)
        timed = gateway.fetch_run(run.thread, run.upstream_id, ClockBounds())
    except UpstreamError as error:
        connections.apply_error(run.connection, error)
        if isinstance(error, NotFound):
            conclusion = probes.find_out(run, error)
            return classifying.error_after_probes(claim, error, conclusion, clock.now())
        return classifying.fetch_error(claim, error, clock.now())
    claim.log_step("fetched again")
    return classifying.reconcile_response(claim, timed)
