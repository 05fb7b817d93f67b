"""One edit on its way: look, merge, commit what is intended, send."""

import datetime as dt
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace

from django.db import connection, transaction

from runsadmin import conf
from runsadmin.errors import Forbidden, InvalidMetadata, OutcomeUnknown, UpstreamError
from runsadmin.metadata import Metadata, MetadataState, merge3
from runsadmin.models import Edit, EditStatus
from runsadmin.models.run import LOCKED
from runsadmin.services import clock, connections, gateway, permissions, probes, runs
from runsadmin.services.clock import ClockBounds
from runsadmin.services.edits import active_runs, claims, faults, outcomes, refusals, rewrites, run_queue
from runsadmin.services.edits.claims import Claim
from runsadmin.services.edits.outcomes import Outcome
from runsadmin.services.edits.undo import skipped_keys_message
from runsadmin.services.gateway import TimedResponse
from runsadmin.upstream.records import RunRecord

logger = logging.getLogger("runsadmin.services.edits")

# A look older than this is repeated before the POST: it bounds the gap in which somebody else's write can be lost.
MAX_FETCH_AGE = dt.timedelta(seconds=2)
# How often an edit that somebody waits for asks whether its turn has come, in seconds.
TURN_PAUSE = 0.05


# --- One edit, from its claim to its outcome


def push_within(edit: Edit, seconds: float | None = None) -> Edit:
    """Pushes for somebody who waits, at most `seconds`. What is not settled by then goes on in the background.

    Call it after the commit of the edit. Returns the edit as it is then.
    """
    logger.debug("Edit %s: recorded.", edit.pk, extra={"edit": edit.pk, "step": "recorded"})
    until = time.monotonic() + (conf.push_wait() if seconds is None else seconds)
    with run_queue.queued(edit) as place:
        was_blocked = False
        while True:
            left = max(0.0, until - time.monotonic())
            first = claims.comes_before(edit) if was_blocked and place.is_first else None
            if not place.is_first:
                place.wait(left)
            elif first is None:
                pushed = _pushers.submit(_push_and_close, edit)
                wait([pushed], left)
                edit = claims.reload(edit)  # Whatever happened there, the row tells.
                if not pushed.done() or not waits_for_turn(edit):
                    return edit
                was_blocked = True
            elif _is_due_in(first) > left:
                return edit
            else:
                place.wait(min(left, TURN_PAUSE))
            if not left:
                return claims.reload(edit)


# Who waits for the turn of an edit never holds one of these threads: those that come first need one.
_pushers = ThreadPoolExecutor(max_workers=16, thread_name_prefix="push")


def _push_and_close(edit: Edit) -> None:
    try:
        push(edit, interactive=True)
    finally:
        connection.close()


def waits_for_turn(edit: Edit) -> bool:
    """Whether it was left as it is, since others of its run come first."""
    return edit.status == EditStatus.PENDING and edit.wait_reason == Edit.WaitReason.TURN


def _is_due_in(edit: Edit) -> float:
    """In how many seconds somebody is at it again. 0: somebody is, or whoever recorded it is about to be."""
    is_at_rest = edit.status == EditStatus.UNKNOWN or edit.wait_reason != Edit.WaitReason.TURN
    if not is_at_rest or edit.next_attempt_at is None:
        return 0.0
    return (edit.next_attempt_at - clock.now()).total_seconds()


def push(edit: Edit, *, interactive: bool = False, is_trial: bool = False) -> Edit:
    """Claims the edit, looks, merges, sends, and stores what became of it. Returns the edit as it is then.

    An edit that cannot be claimed now is left as it is: others of its run come first, or somebody else is at it.
    With `is_trial` it is sent though writing is held, to see whether it still has to be.
    """
    if claim := claims.claim(edit):
        with claim.tracing():
            claim.step("claimed")
            try:
                if outcome := _push(claim, interactive=interactive, is_trial=is_trial):
                    outcomes.keep([outcome])
                    if outcome.has_written and outcome.timed is not None:
                        refusals.note_write(claim.alias, outcome.timed.requested_at)
            except Exception:
                # Whatever it was: the row tells. Nothing of it is left to chance.
                logger.exception("Pushing edit %s ended in an error of our own.", edit.pk)
                outcomes.broken(claim)
                raise
    return claims.reload(edit)


def _push(claim: Claim, *, interactive: bool, is_trial: bool = False) -> Outcome | None:
    if not permissions.may(claim.edit.actor, permissions.Action.EDIT_METADATA):
        return refuse(claim)
    reason = connections.hold_reason(claim.alias, is_write=not is_trial)
    if reason:
        return outcomes.hold(claim, reason)
    try:
        # Both places at once: the POST has to follow the look at once.
        connections.wait_for_slots(claim.alias, 2, interactive=interactive)
        timed = runs.fetch(claim.edit.run)
    except UpstreamError as error:
        return _failed(claim, error, faults.fetch_failed)
    claim.step("looked")
    step = decide(claim, timed, looked=time.monotonic())
    if isinstance(step, Outcome):
        return step
    with transaction.atomic(durable=True):
        may_be_sent = intend([step])
    if not may_be_sent:
        claims.release(claim.row)
        return None
    claim.step("intended")
    if stopped := too_old(step):
        return stopped
    response = post(step)
    if isinstance(response, UpstreamError):
        connections.apply_error(claim.alias, response, is_write=True)
        return _failed(claim, response, faults.write_failed)
    return judge(step, response)


def _failed(claim: Claim, error: UpstreamError, fault: Callable[[Claim, UpstreamError], Outcome]) -> Outcome:
    if isinstance(error, Forbidden):
        (outcome,) = refusals.outcomes_of(claim.alias, [(claim, error)], has_written=False)
        return outcome
    if probes.is_needed(error) and not isinstance(error, OutcomeUnknown):
        conclusion = probes.conclude(claim.edit.run, error, probes.ask_about(claim.edit.run.thread, error))
        connections.store_effect(claim.alias, conclusion.effect)
        return faults.after_probes(claim, error, conclusion)
    return fault(claim, error)


# --- The steps, each of which many edits may take at once


@dataclass(frozen=True)
class Intent:
    """What a look led to: the map that upstream had, and the one that it is to have."""

    claim: Claim
    before: Metadata
    intended: Metadata
    looked: float  # In time.monotonic().
    detail: str = ""  # What is to be told of it once it is applied.
    has_slot: bool = True  # Whether the limiter has let it pass together with its look.
    was_refused: bool = False  # The server took it for one too many, and it is sent once more.


def refuse(claim: Claim) -> Outcome:
    refusal = f"The account {claim.edit.actor.get_username()!r} may no longer edit metadata."
    return outcomes.end(claim, EditStatus.REJECTED, refusal)


def decide(claim: Claim, timed: TimedResponse[RunRecord], *, looked: float) -> Outcome | Intent:
    """From what the look found to what is to be sent, if anything."""
    edit, now = claim.edit, timed.response.value
    if not now.shows_metadata:
        return _metadata_unknown(claim, timed)
    if now.status in LOCKED and edit.wait_reason == Edit.WaitReason.ACTIVE_RUN:
        return active_runs.wait(claim, f"The run is still {now.status}.", timed)
    base = now.metadata if edit.base is None else edit.base
    patch = edit.patch
    merge = merge3(base=base, theirs=now.metadata, patch=patch)
    if merge.conflicts:
        keys = [conflict.key for conflict in merge.conflicts]
        if edit.undoes_id is None or patch.keys <= set(keys):
            told = f"Somebody else changed since: {', '.join(keys)}."
            return outcomes.end(claim, EditStatus.CONFLICT, told, timed, before=now.metadata)
        # Undoing leaves what somebody else changed since, and puts back the rest.
        patch = patch.only(patch.keys - set(keys))
        merge = merge3(base=base, theirs=now.metadata, patch=patch)
    told = skipped_keys_message(edit, merge.result)
    try:
        patch.check(now.metadata)
    except InvalidMetadata as error:
        return outcomes.end(claim, EditStatus.REJECTED, str(error), timed, before=now.metadata)
    if merge.result == now.metadata:
        return outcomes.end(
            claim, EditStatus.APPLIED, told or "Upstream had it already.", timed,
            before=now.metadata, intended=merge.result, after=now.metadata,
        )  # fmt: skip
    return Intent(claim, now.metadata, merge.result, looked, told)


def _metadata_unknown(claim: Claim, timed: TimedResponse[RunRecord]) -> Outcome:
    """To send a map without knowing what is there would wipe it."""
    if timed.response.value.metadata_state == MetadataState.UNREADABLE:
        return outcomes.end(claim, EditStatus.REJECTED, UNREADABLE, timed)
    return outcomes.end(claim, EditStatus.FAILED, NOT_SHOWN, timed)


UNREADABLE = (
    "The metadata of this run holds a value that cannot be read, and sending the map again would change it. "
    "Nothing was sent. Correct the value upstream, then retry."
)
NOT_SHOWN = (
    "The server does not show the metadata of this run, so an edit could overwrite what is there. Nothing was sent. "
    "If this server leaves out empty metadata, set MISSING_METADATA_IS_EMPTY for the connection, then retry."
)


def intend(intents: Sequence[Intent]) -> list[Intent]:
    """Writes down what is to be sent. Committed ahead of sending it, whatever happens then, a later look can tell.

    Returns those that may be sent after the commit. A claim that may run out before the look grows too old to be relied
    on is none any more.
    """
    if not intents:
        return []
    began = clock.now()
    rows = [
        (intent.claim, {"before": intent.before, "intended": intent.intended, "sent_at": began}) for intent in intents
    ]
    ready = list(intents)
    written = claims.write(rows, lasting_until=began + MAX_FETCH_AGE)
    if written < len(intents):
        theirs = claims.rows(intent.claim for intent in intents).filter(sent_at=began)
        pks = set(theirs.values_list("pk", flat=True))
        ready = [intent for intent in intents if intent.claim.edit.pk in pks]
    return ready


def gap(intent: Intent) -> dt.timedelta:
    return dt.timedelta(seconds=time.monotonic() - intent.looked)


def too_old(intent: Intent) -> Outcome | None:
    if gap(intent) <= MAX_FETCH_AGE:
        return None
    return outcomes.wait(intent.claim, Edit.WaitReason.RETRY, "The look was too old to be relied on.", dt.timedelta())


def post(intent: Intent, clock_bounds: ClockBounds | None = None) -> TimedResponse[RunRecord] | UpstreamError:
    """Sends it, unless the look has grown too old by the time that the bytes are to leave. Knows no database."""
    claim, run = intent.claim, intent.claim.edit.run
    # From here on this process may stand still, or be slow to connect. Whoever finds its claim run out may send again
    # after the timeouts: by then it must have left.
    send_by = intent.looked + min(MAX_FETCH_AGE, claim.timeout).total_seconds()
    try:
        return gateway.write(
            claim.alias,
            run.thread.upstream_id,
            run.upstream_id,
            intent.intended,
            clock_bounds or ClockBounds(),
            send_by=send_by,
        )
    except UpstreamError as error:
        return error


def judge(intent: Intent, response: TimedResponse[RunRecord]) -> Outcome:
    """What a successful response to a POST means."""
    intent.claim.step("answered")
    record = response.response.value
    if not record.shows_metadata:
        unshown = OutcomeUnknown(
            "The response does not show the metadata.",
            http_status=response.response.http_status,
            request_id=response.response.request_id,
        )
        return outcomes.lose(intent.claim, unshown)
    length = dt.timedelta(seconds=response.response.sent - intent.looked)
    edit, after = intent.claim.edit, record.metadata
    rewrite = rewrites.of(edit, intent.intended, after)
    status, detail, pauses = EditStatus.APPLIED, intent.detail, ""
    if rewrite:
        status, detail = EditStatus.DIFFERS, f"{rewrites.detail(rewrite)} {intent.detail}".rstrip()
        if rewrites.pauses(edit, rewrite):
            pauses = rewrites.why_paused(edit, rewrite, intent.intended, after)
    outcome = outcomes.end(intent.claim, status, detail, response, after=after, race_window=length)
    return replace(outcome, has_written=True, pauses_bulk_edit=pauses)
