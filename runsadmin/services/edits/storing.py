"""Stores the outcomes of edits: their rows and the mirror, in one transaction."""

import datetime as dt
import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence

from django.db import transaction

from runsadmin import conf
from runsadmin.models import BulkEdit, BulkEditStatus, Edit, EditStatus
from runsadmin.models.edit import ENDED
from runsadmin.services import clock, runs
from runsadmin.services.edits import claims, outcomes
from runsadmin.services.edits.claims import Claim
from runsadmin.services.edits.deciding import MAX_FETCH_AGE, Intent
from runsadmin.services.edits.outcomes import Outcome

logger = logging.getLogger("runsadmin.services.edits")

type _Row = tuple[Claim, dict[str, object]]


def store(ended: Sequence[Outcome], intents: Sequence[Intent] = ()) -> list[Intent]:
    """Stores outcomes and intents. Returns the intents that may be sent now.

    Drops outcomes whose claim was lost, but stores their Runs. Releases intents whose claim expires too soon.
    """
    now = clock.now()
    rows = _rows(ended, now)
    # Compare before the transaction, which then holds no lock meanwhile.
    difference = runs.compare((outcome.claim.edit.run.thread, outcome.timed) for outcome in ended if outcome.timed)
    written = 0
    with transaction.atomic(durable=True):
        ready = write_intents(intents)
        if len(ready) < len(intents):
            sent = {intent.claim.edit.pk for intent in ready}
            claims.release(claims.rows(intent.claim for intent in intents if intent.claim.edit.pk not in sent))
        _pause_bulk_edits(ended, now)
        for (status, _), of_status in rows.items():
            written += claims.transition(status, of_status)
        difference.write()
        _mark_missing(ended)
    for intent in ready:
        intent.claim.log_step("intended")
    for outcome in ended:
        if outcome.status in ENDED:
            outcome.claim.log_step("stored")
    if written < len(ended):
        logger.warning(
            "%s of these edits were claimed by another process before their outcomes were stored: %s",
            len(ended) - written,
            [outcome.claim.edit.pk for outcome in ended],
        )
    return ready


def _rows(ended: Iterable[Outcome], now: dt.datetime) -> dict[tuple[EditStatus, tuple[str, ...]], list[_Row]]:
    """Groups rows by status and columns: each group is one statement."""
    rows: dict[tuple[EditStatus, tuple[str, ...]], list[_Row]] = defaultdict(list)
    for outcome in ended:
        values = {
            "detail": outcome.detail,
            "next_attempt_at": None if outcome.pause is None else now + outcome.pause,
            "finished_at": now if outcome.status in ENDED else None,
            "claim_token": None,
            "claimed_until": None,
            **outcome.values,
        }
        rows[outcome.status, tuple(values)].append((outcome.claim, values))
    return rows


def write_intents(intents: Sequence[Intent]) -> list[Intent]:
    """Stores intents in the open transaction: committed before the write, they let a later fetch tell what happened.

    Skips those whose claim expires before their fetch becomes too old: another process could send them as well.
    """
    if not intents:
        return []
    now = clock.now()
    rows = [
        (intent.claim, {"before": intent.before, "intended": intent.intended, "sent_at": now}) for intent in intents
    ]
    if claims.write(rows, lasting_until=now + MAX_FETCH_AGE) == len(intents):
        return list(intents)
    ours = claims.rows(intent.claim for intent in intents).filter(sent_at=now)
    pks = set(ours.values_list("pk", flat=True))
    return [intent for intent in intents if intent.claim.edit.pk in pks]


def _pause_bulk_edits(ended: Iterable[Outcome], now: dt.datetime) -> None:
    """Pauses bulk edits whose edits were rewritten, unless such changes were accepted by resuming.

    One that a user has paused meanwhile stays paused and gets the new detail: resuming it accepts that, too.
    """
    reasons: dict[int, str] = {}
    for outcome in ended:
        if outcome.pauses_bulk_edit and outcome.claim.edit.bulk_edit_id is not None:
            reasons.setdefault(outcome.claim.edit.bulk_edit_id, outcome.pauses_bulk_edit)
    for pk, reason in reasons.items():
        values = {"detail": reason, "rewrites_seen_at": now}
        unseen = BulkEdit.objects.filter(pk=pk, accepts_rewrites=False, rewrites_seen_at=None)
        if not unseen.transition_to(BulkEditStatus.PAUSED, **values):
            unseen.filter(status=BulkEditStatus.PAUSED).update(**values)


def _mark_missing(ended: Iterable[Outcome]) -> None:
    missing = [outcome.claim.edit.run for outcome in ended if outcome.run_is_missing]
    threads = {outcome.claim.edit.run.thread_id for outcome in ended if outcome.thread_is_missing}
    if missing:
        runs.mark_missing(*(run.pk for run in missing))
    if threads:
        runs.mark_thread_missing(*threads)


def record_crash(claim: Claim, *, is_unsent: bool = False) -> None:
    """Releases a claim after an internal error. It counts as an attempt, so that it does not repeat forever.

    With `is_unsent` nothing was sent, so the edit is pending even if its intent was stored.
    """
    if is_unsent:
        claim.row.filter(status=EditStatus.SENDING).update(before=None, intended=None, sent_at=None)
    attempts = claim.edit.attempts + 1
    claim.row.update(attempts=attempts)
    if attempts >= conf.max_attempts() and not claim.is_unknown:
        claim.row.filter(intended__isnull=True).transition_to(
            EditStatus.FAILED,
            detail=f"Tried {attempts} times. It failed with an internal error; see the log.",
            finished_at=clock.now(),
            claim_token=None,
            claimed_until=None,
            next_attempt_at=None,
            wait_reason=Edit.WaitReason.TURN,
        )
    claims.release(claim.row, dt.timedelta(seconds=outcomes.backoff(attempts)))
