"""Handles 403 responses: whether upstream refuses certain metadata, one thread, or all writing.

A refused edit stays pending at first. If another write succeeds, the refusal concerns only this edit, which is then
rejected with the server's message. An edit that is refused twice is rejected, too. If edits in three threads are
refused and no write succeeds, writing is held: one edit is tried from time to time, and all continue once one succeeds.
"""

import datetime as dt
import logging
from collections.abc import Collection, Sequence

from runsadmin.errors import Forbidden
from runsadmin.models import ConnectionState, Edit, EditStatus
from runsadmin.models.bulk_edit import IN_PROGRESS
from runsadmin.services import clock, connections
from runsadmin.services.edits import outcomes
from runsadmin.services.edits.claims import Claim
from runsadmin.services.edits.outcomes import Outcome
from runsadmin.services.gateway import ConnectionEffect

logger = logging.getLogger("runsadmin.services.edits")

PAUSE = dt.timedelta(seconds=10)
MAX_REFUSALS = 2
# More than one edit, since some may have to wait for other edits of their runs.
MAX_TRIED = 10
# Refusals in this many threads show that the server refuses all writes, not only those to one thread.
THREADS_THAT_PROVE = 3


def evaluate(alias: str, refused: Sequence[tuple[Claim, Forbidden]], *, has_written: bool) -> list[Outcome]:
    """The outcomes of edits that were refused at about the same time. `has_written`: whether other writes succeeded.

    Holds writing if the refusals prove that all writes are refused.
    """
    if not refused:
        return []
    if not has_written and _is_writing_refused(alias, {claim.edit.run.thread_id for claim, _ in refused}):
        _, error = refused[0]
        detail = f"The server refuses writes in several threads: {error} One edit is tried every five minutes."
        connections.store_effect(alias, ConnectionEffect(hold=ConnectionState.Hold.WRITING, detail=detail))
    hold_reason = connections.hold_reason(alias)
    if not hold_reason:
        ConnectionState.objects.update_or_create(alias=alias, defaults={"refused_at": clock.now()})
    return [_classify(claim, error, hold_reason) for claim, error in refused]


def _classify(claim: Claim, error: Forbidden, hold_reason: str) -> Outcome:
    if hold_reason:
        return outcomes.held(claim, f"{hold_reason} The response to this edit was: {error}", error)
    refusals = claim.edit.refusals + 1
    values: dict[str, object] = {"refusals": refusals}
    if refusals >= MAX_REFUSALS:
        return Outcome(claim, EditStatus.REJECTED, str(error), error=error, values=values)
    return Outcome(claim, EditStatus.PENDING, str(error), None, error, PAUSE, Edit.WaitReason.REFUSED, values)


def _is_writing_refused(alias: str, threads: Collection[int]) -> bool:
    missing = THREADS_THAT_PROVE - len(threads)
    if missing <= 0:
        return True
    others = Edit.objects.refused(alias).exclude(run__thread__in=threads).order_by().values("run__thread").distinct()
    return len(others[:missing]) == missing


def note_write(alias: str, requested_at: dt.datetime) -> None:
    """Called after a successful write. Rejects the edits that were refused before it.

    If writing was held, it is released instead, and those edits are due again.
    """
    state = ConnectionState.objects.filter(alias=alias)
    row = state.first()
    if row is None or (row.refused_at is None and row.hold != ConnectionState.Hold.WRITING):
        return
    if state.filter(hold=ConnectionState.Hold.WRITING).update(**connections.RELEASED):
        logger.info("Connection %s accepts writes again.", alias)
        Edit.objects.refused(alias).update(wait_reason=Edit.WaitReason.TURN, refusals=0, next_attempt_at=clock.now())
    else:
        Edit.objects.refused(alias).filter(next_attempt_at__lte=requested_at + PAUSE).transition_to(
            EditStatus.REJECTED, finished_at=clock.now(), next_attempt_at=None, wait_reason=Edit.WaitReason.TURN
        )
    if not Edit.objects.refused(alias).exists():
        state.filter(refused_at=row.refused_at).update(refused_at=None)


def edits_to_try(alias: str) -> list[Edit]:
    """The edits to try if writing is held and a trial is due: the first one that can be claimed should be sent."""
    state = ConnectionState.objects.filter(alias=alias, hold=ConnectionState.Hold.WRITING).first()
    if state is None or state.restored_from or not connections.claim_probe(state):
        return []
    pending = Edit.objects.filter(status=EditStatus.PENDING, run__connection=alias, restored_from=None).order_by("pk")
    single = pending.filter(bulk_edit=None).select_related("run")[:MAX_TRIED]
    return list(single) or list(pending.filter(bulk_edit__status__in=IN_PROGRESS).select_related("run")[:MAX_TRIED])
