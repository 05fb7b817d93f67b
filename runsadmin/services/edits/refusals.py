"""A 403: whether it is one map, one thread, or writing as a whole that upstream refuses.

A refused edit stays pending. Once another write succeeds, what was refused is this edit, and it is rejected with the
server's words; so it is at its second refusal. Where edits in three threads are refused and none succeeds, writing is
held: then one edit is tried now and then, and all go on when that one succeeds.
"""

import datetime as dt
from collections.abc import Collection, Sequence

from runsadmin.errors import Forbidden
from runsadmin.models import ConnectionState, Edit, EditStatus
from runsadmin.models.bulk_edit import IN_PROGRESS
from runsadmin.models.edit import EditQuerySet
from runsadmin.services import clock, connections
from runsadmin.services.edits import outcomes
from runsadmin.services.edits.claims import Claim
from runsadmin.services.edits.outcomes import Outcome

PAUSE = dt.timedelta(seconds=10)
MOST_REFUSALS = 2
# Some of them may wait for others of their runs.
MOST_TRIED = 10
# So many threads in which writes are refused show that it is not the thread.
THREADS_THAT_PROVE = 3


def outcomes_of(alias: str, refused: Sequence[tuple[Claim, Forbidden]], *, has_written: bool) -> list[Outcome]:
    """What becomes of edits that were refused at about the same time. `has_written`: others were taken meanwhile."""
    if not refused:
        return []
    if not has_written and _is_writing_refused(alias, {claim.edit.run.thread_id for claim, _ in refused}):
        _, error = refused[0]
        connections.hold(
            alias,
            ConnectionState.Hold.WRITING,
            f"The server refuses writes in several threads: {error} One edit is tried every five minutes.",
        )
    if reason := connections.hold_reason(alias):
        return [outcomes.hold(claim, f"{reason} Its own refusal: {error}", error) for claim, error in refused]
    return [_refused(claim, error) for claim, error in refused]


def _refused(claim: Claim, error: Forbidden) -> Outcome:
    refusals = claim.edit.refusals + 1
    if refusals >= MOST_REFUSALS:
        return outcomes.end(claim, EditStatus.REJECTED, str(error), error=error, refusals=refusals)
    return outcomes.wait(claim, Edit.WaitReason.REFUSED, str(error), PAUSE, error=error, refusals=refusals)


def _is_writing_refused(alias: str, threads: Collection[int]) -> bool:
    wanted = THREADS_THAT_PROVE - len(threads)
    if wanted <= 0:
        return True
    others = waiting(alias).exclude(run__thread__in=threads).order_by().values("run__thread").distinct()
    return len(others[:wanted]) == wanted


def waiting(alias: str) -> EditQuerySet:
    """The edits that were refused once and wait for what another write shows."""
    return Edit.objects.filter(wait_reason=Edit.WaitReason.REFUSED, status=EditStatus.PENDING, run__connection=alias)


def note_write(alias: str, requested_at: dt.datetime) -> None:
    """After a write that upstream took: what was refused before it is refused for good, unless writing was held."""
    if connections.release_writing(alias):
        waiting(alias).update(wait_reason=Edit.WaitReason.TURN, refusals=0, next_attempt_at=clock.now())
    else:
        waiting(alias).filter(next_attempt_at__lte=requested_at + PAUSE).transition_to(
            EditStatus.REJECTED, finished_at=clock.now(), next_attempt_at=None, wait_reason=Edit.WaitReason.TURN
        )


def edits_to_try(alias: str) -> list[Edit]:
    """Of which to send the first that can be claimed, to see whether writing still has to be held. Empty: not now."""
    state = ConnectionState.objects.filter(alias=alias, hold=ConnectionState.Hold.WRITING).first()
    if state is None or not connections.claim_probe(state):
        return []
    pending = Edit.objects.filter(status=EditStatus.PENDING, run__connection=alias).order_by("pk")
    single = pending.filter(bulk_edit=None).select_related("run")[:MOST_TRIED]
    return list(single) or list(pending.filter(bulk_edit__status__in=IN_PROGRESS).select_related("run")[:MOST_TRIED])
