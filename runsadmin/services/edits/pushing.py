"""Pushes one edit, from its claim to its outcome: fetch, decide, store the intent, write, classify, store.

After a lost response, the edit is unknown. Reconciling fetches its run again, and never sends a write.
"""

import logging
import time
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache

from django.db import connection

from runsadmin import conf
from runsadmin.errors import Forbidden, OutcomeUnknown, UpstreamError
from runsadmin.models import Edit, EditStatus
from runsadmin.services import clock, connections, gateway, probes
from runsadmin.services.clock import ClockBounds
from runsadmin.services.edits import claims, classifying, deciding, outcomes, refusals, run_queue, storing
from runsadmin.services.edits.claims import Claim
from runsadmin.services.edits.outcomes import Outcome

logger = logging.getLogger("runsadmin.services.edits")

# An interactive edit checks at this interval, in seconds, whether it comes first among the edits of its run.
TURN_PAUSE = 0.05


def push(edit: Edit, *, interactive: bool = False, is_trial: bool = False) -> Edit:
    """Claims the edit, fetches, merges, writes, and stores the outcome. Returns the updated edit.

    Does nothing if the edit cannot be claimed now. With `is_trial`, it is sent even though writing is held, to check
    whether the hold is still necessary.
    """
    if claim := claims.claim(edit):
        with claims.processing(claim):
            claim.log_step("claimed")
            if outcome := _attempt(claim, interactive=interactive, is_trial=is_trial):
                storing.store([outcome])
                if outcome.has_written and outcome.timed is not None:
                    refusals.note_write(edit.run.connection, outcome.timed.requested_at)
    return claims.reload(edit)


def _attempt(claim: Claim, *, interactive: bool, is_trial: bool) -> Outcome | None:
    """Returns the outcome, or None if the claim was lost before anything was sent."""
    run = claim.edit.run
    hold_reason = connections.hold_reason(run.connection, is_write=not is_trial)
    if not claim.is_permitted:
        return outcomes.not_permitted(claim)
    if hold_reason:
        return outcomes.held(claim, hold_reason)
    try:
        # Take slots for both requests together: the write must follow the fetch immediately.
        connections.wait_for_slots(run.connection_settings, 2, interactive=interactive)
        timed = gateway.fetch_run(run.thread, run.upstream_id, ClockBounds())
    except UpstreamError as error:
        return _classify_error(claim, error)
    claim.log_step("fetched")
    intent = deciding.decide_write(claim, timed, fetched_at=time.monotonic())
    if isinstance(intent, Outcome):  # The edit has ended or waits, without being sent.
        return intent
    if not storing.store([], [intent]):
        return None
    if outcome := deciding.stale_fetch(intent):
        return outcome
    try:
        timed = gateway.write_run(run.thread, run.upstream_id, intent.intended, intent.send_by, ClockBounds())
    except UpstreamError as error:
        claim.log_step("responded")
        return _classify_error(claim, error, is_write=True)
    claim.log_step("responded")
    return classifying.write_response(intent, timed)


def reconcile(edit: Edit) -> Edit:
    """Fetches the run of an unknown edit to find out whether the write happened. Returns the updated edit."""
    if claim := claims.claim_unknown(edit):
        with claims.processing(claim):
            claim.log_step("reconciling")
            storing.store([_reconcile(claim)])
    return claims.reload(edit)


def _reconcile(claim: Claim) -> Outcome:
    run = claim.edit.run
    if hold_reason := connections.hold_reason(run.connection, is_write=False):
        return classifying.still_unknown(claim, hold_reason, outcomes.WAIT_FOR_CONNECTION)
    try:
        connections.wait_for_slots(run.connection_settings, 1)
        timed = gateway.fetch_run(run.thread, run.upstream_id, ClockBounds())
    except UpstreamError as error:
        return _classify_error(claim, error)
    claim.log_step("fetched again")
    return classifying.reconcile_response(claim, timed)


def _classify_error(claim: Claim, error: UpstreamError, *, is_write: bool = False) -> Outcome:
    run = claim.edit.run
    connections.apply_error(run.connection, error, is_write=is_write)
    if isinstance(error, Forbidden) and not claim.is_unknown:
        (outcome,) = refusals.evaluate(run.connection, [(claim, error)], has_written=False)
        return outcome
    if probes.is_needed(error) and not isinstance(error, OutcomeUnknown):
        conclusion = probes.find_out(run.thread, run.upstream_id, error)
        return classifying.error_after_probes(claim, error, conclusion, clock.now())
    return classifying.call_error(claim, error, clock.now())


# --- While a user is waiting


def push_within(edit: Edit, seconds: float | None = None) -> Edit:
    """Pushes an interactive edit for at most `seconds`. If it has not ended by then, it continues in the background.

    Call it after the edit has been committed. Returns the updated edit.
    """
    logger.debug("Edit %s: recorded.", edit.pk, extra={"edit": edit.pk, "step": "recorded"})
    until = time.monotonic() + (conf.push_wait() if seconds is None else seconds)
    with run_queue.queued(edit) as position:
        was_blocked = False
        while True:
            left = max(0.0, until - time.monotonic())
            first = claims.comes_before(edit) if was_blocked and position.is_first else None
            if not position.is_first:
                position.wait(left)
            elif first is None:
                pushed = _pushers(edit.run.connection).submit(_push_and_close, edit)
                wait([pushed], left)
                edit = claims.reload(edit)  # The pushing thread logs its own errors, and the row has the outcome.
                if not pushed.done() or not waits_for_turn(edit):
                    return edit
                was_blocked = True
            elif _seconds_until_due(first) > left:
                return edit
            else:
                position.wait(min(left, TURN_PAUSE))
            if not left:
                return claims.reload(edit)


@cache
def _pushers(connection: str) -> ThreadPoolExecutor:
    """The threads for one connection, so that its edits do not wait for those of a slow connection.

    An edit that waits for its turn must not occupy one of these threads, which the edits before it need.
    """
    return ThreadPoolExecutor(max_workers=16, thread_name_prefix=f"push-{connection}")


def _push_and_close(edit: Edit) -> None:
    try:
        push(edit, interactive=True)
    finally:
        connection.close()


def waits_for_turn(edit: Edit) -> bool:
    """Whether the edit could not be claimed because other edits of its run come first."""
    return edit.status == EditStatus.PENDING and edit.wait_reason == Edit.WaitReason.TURN


def _seconds_until_due(edit: Edit) -> float:
    """The seconds until an edit is due. 0 if it is being processed or is about to be."""
    is_waiting = edit.status == EditStatus.UNKNOWN or edit.wait_reason != Edit.WaitReason.TURN
    if not is_waiting or edit.next_attempt_at is None:
        return 0.0
    return (edit.next_attempt_at - clock.now()).total_seconds()
