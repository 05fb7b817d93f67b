"""Finding out what became of a write whose answer was lost. Never sends."""

import logging
from collections.abc import Mapping

from runsadmin import conf
from runsadmin.errors import NotFound, OutcomeUnknown, UpstreamError
from runsadmin.models import Edit, EditStatus
from runsadmin.services import connections, probes, runs
from runsadmin.services.edits import claims, faults, outcomes, rewrites
from runsadmin.services.edits.claims import Claim
from runsadmin.services.edits.outcomes import Outcome
from runsadmin.services.edits.undo import skipped_keys_message
from runsadmin.services.gateway import TimedResponse
from runsadmin.upstream.records import RunRecord

logger = logging.getLogger("runsadmin.services.edits")


def reconcile(edit: Edit) -> Edit:
    """Looks what became of a write whose answer was lost. Never sends. Returns the edit as it is then."""
    if claim := claims.claim_unknown(edit):
        with claim.tracing():
            claim.step("reconciling")
            try:
                outcomes.keep([_reconcile(claim)])
            except Exception:
                logger.exception("Reconciling edit %s ended in an error of our own.", edit.pk)
                outcomes.broken(claim)
                raise
    return claims.reload(edit)


def _reconcile(claim: Claim) -> Outcome:
    if reason := connections.hold_reason(claim.alias, is_write=False):
        return outcomes.look_again(claim, reason, outcomes.WAIT_FOR_CONNECTION)
    try:
        connections.wait_for_slots(claim.alias, 1)
        timed = runs.fetch(claim.edit.run)
    except NotFound as error:
        conclusion = probes.conclude(claim.edit.run, error, probes.ask_about(claim.edit.run.thread, error))
        connections.store_effect(claim.alias, conclusion.effect)
        return faults.after_probes(claim, error, conclusion)
    except UpstreamError as error:
        return faults.reconcile_failed(claim, error)
    return judge(claim, timed)


def judge(claim: Claim, timed: TimedResponse[RunRecord]) -> Outcome:
    """Compares what was there before, what was intended and what is there now, on the keys that the patch touches."""
    edit = claim.edit
    claim.step("looked again")
    assert edit.before is not None
    assert edit.intended is not None
    assert edit.sent_at is not None
    if not timed.response.value.shows_metadata:
        return outcomes.look_again(claim, "The server does not show the metadata of this run.")
    before, intended, now = edit.before, edit.intended, timed.response.value.metadata
    if _agree(now, intended, edit.patch.keys):
        since = rewrites.changed_since(rewrites.of(edit, intended, now))
        parts = ("The answer was lost; a later look found it applied.", since, skipped_keys_message(edit, intended))
        found = " ".join(part for part in parts if part)
        return outcomes.end(claim, EditStatus.APPLIED, found, timed, after=now)
    if not _agree(now, before, edit.patch.keys):
        found = "The answer was lost; a later look found something else."
        return outcomes.end(claim, EditStatus.CONFLICT, found, timed, after=now)
    if timed.requested_at < (settled_at := edit.sent_at + claim.timeout + conf.settling_time()):
        # To look in between would tell sooner that it has landed, and mostly tell nothing.
        return outcomes.look_again(
            claim, "The answer was lost, and it may still land.", settled_at - timed.requested_at
        )
    return outcomes.try_later(
        claim, OutcomeUnknown("The answer was lost; a later look found that nothing of it was kept.")
    )


def _agree(one: Mapping[str, object], other: Mapping[str, object], keys: frozenset[str]) -> bool:
    return all(one.get(key) == other.get(key) for key in keys)
