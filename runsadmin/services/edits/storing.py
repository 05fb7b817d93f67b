"""Stores the outcomes of edits: their rows and the mirror, in one transaction."""

import datetime as dt
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from django.db import transaction

from runsadmin.db_errors import is_database_failure
from runsadmin.models import BulkEdit, BulkEditStatus, Edit, EditStatus
from runsadmin.models.bulk_sql import Row, update_rows
from runsadmin.models.edit import ENDED
from runsadmin.services import clock, runs
from runsadmin.services.edits.claims import SOON, Claim
from runsadmin.services.edits.deciding import MAX_FETCH_AGE, Intent
from runsadmin.services.edits.outcomes import Outcome, returned

logger = logging.getLogger("runsadmin.services.edits")


type OnError = Callable[[Claim, Exception], object]


def store(
    outcomes: Sequence[Outcome], intents: Sequence[Intent] = (), *, on_error: OnError | None = None
) -> Sequence[Intent]:
    """Stores outcomes and intents. Returns the intents that may be sent now.

    Drops outcomes whose claim was lost, but stores their Runs. An edit whose claim expires too soon to send it becomes
    pending again. If the database refuses some rows, each is stored on its own: an outcome without its Run, if only
    that is refused. `on_error` is called for the claims of the others; without it, their error is raised.
    """
    try:
        return _store(outcomes, intents)
    except Exception as error:
        if is_database_failure(error):
            raise
    ready: list[Intent] = []
    for outcome in outcomes:
        with _reported(outcome.claim, on_error):
            _store_alone(outcome)
    for intent in intents:
        with _reported(intent.claim, on_error):
            ready += _store([], [intent])
    return ready


@contextmanager
def _reported(claim: Claim, on_error: OnError | None) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if on_error is None or is_database_failure(error):
            raise
        on_error(claim, error)


def _store_alone(outcome: Outcome) -> None:
    try:
        _store([outcome])
    except Exception as error:
        timed = outcome.timed
        if timed is None or is_database_failure(error):
            raise
        logger.exception("The run of edit %s could not be mirrored.", outcome.claim.edit.pk)
        detail = f"{outcome.detail} The run could not be stored in the mirror ({type(error).__name__}); see the log."
        response = {"http_status": timed.response.http_status, "upstream_request_id": timed.response.request_id}
        _store([replace(outcome, timed=None, detail=detail.strip(), values={**outcome.values, **response})])


def _store(outcomes: Sequence[Outcome], intents: Sequence[Intent] = ()) -> Sequence[Intent]:
    now = clock.now()
    # Compare before the transaction begins, so that no locks are held during the comparison.
    difference = runs.compare((outcome.claim.edit.run.thread, outcome.timed) for outcome in outcomes if outcome.timed)
    with transaction.atomic(durable=True):
        intents = write_intents(intents, now)
        _pause_bulk_edits(outcomes, now)
        written = _transition(outcomes, now)
        difference.write(
            missing_runs={outcome.claim.edit.run_id for outcome in outcomes if outcome.run_is_missing},
            missing_threads={outcome.claim.edit.run.thread_id for outcome in outcomes if outcome.thread_is_missing},
        )
    for intent in intents:
        intent.claim.log_step("intended")
    for outcome in outcomes:
        if outcome.status in ENDED:
            outcome.claim.log_step("stored")
    if written < len(outcomes):
        logger.warning(
            "%s of these edits were claimed by another process before their outcomes were stored: %s",
            len(outcomes) - written,
            [outcome.claim.edit.pk for outcome in outcomes],
        )
    return intents


def _transition(outcomes: Iterable[Outcome], now: dt.datetime) -> int:
    """Moves claimed edits to their new state, unless the claim was lost. Returns how many were moved."""
    rows: dict[EditStatus, list[Row]] = defaultdict(list)
    for outcome in outcomes:
        values = {
            "detail": outcome.detail,
            "wait_reason": outcome.wait_reason,
            "next_attempt_at": None if outcome.pause is None else now + outcome.pause,
            "finished_at": now if outcome.status in ENDED else None,
            "claim_token": None,
            "claimed_until": None,
            **outcome.values,
        }
        if outcome.claim.edit.deaths:  # This process has survived.
            values["deaths"] = None
        if outcome.status == EditStatus.PENDING:
            values |= {"before": None, "intended": None, "sent_at": None}
        if response := outcome.timed.response if outcome.timed else outcome.error:
            values |= {"http_status": response.http_status, "upstream_request_id": response.request_id}
        rows[outcome.status].append((values, _identity(outcome.claim)))
    return sum(Edit.objects.all().transition_rows(status, group) for status, group in rows.items())


def _identity(claim: Claim) -> dict[str, object]:
    """The values that identify the row of a claim. If the claim was lost, no row has them."""
    return {"id": claim.edit.pk, "claim_token": claim.token}


def write_intents(intents: Sequence[Intent], now: dt.datetime) -> Sequence[Intent]:
    """Stores intents in the open transaction, and returns those that may be sent now.

    If the response is lost, a later fetch is compared with the intent. An edit whose claim expires before its fetch is
    too old becomes pending again, since another process could send it as well.
    """
    rows: list[Row] = [
        ({"before": intent.before, "intended": intent.intended, "sent_at": now}, _identity(intent.claim))
        for intent in intents
    ]
    until = now + MAX_FETCH_AGE
    stored = set(update_rows(Edit, rows, status_in=[EditStatus.SENDING.value], claimed_until=until))
    late = [intent.claim for intent in intents if intent.claim.edit.pk not in stored]
    _transition(returned(late, SOON), now)
    return [intent for intent in intents if intent.claim.edit.pk in stored]


def _pause_bulk_edits(outcomes: Iterable[Outcome], now: dt.datetime) -> None:
    """Pauses bulk edits whose edits were rewritten, unless a user accepted such changes by resuming.

    A bulk edit that a user has already paused gets the new detail, since resuming it accepts the changes as well.
    """
    reasons: dict[int, str] = {}
    for outcome in outcomes:
        if outcome.pauses_bulk_edit and outcome.claim.edit.bulk_edit_id is not None:
            reasons.setdefault(outcome.claim.edit.bulk_edit_id, outcome.pauses_bulk_edit)
    for pk, reason in reasons.items():
        values = {"detail": reason, "rewrites_seen_at": now}
        unseen = BulkEdit.objects.filter(pk=pk, accepts_rewrites=False, rewrites_seen_at=None)
        if not unseen.transition_to(BulkEditStatus.PAUSED, **values):
            unseen.filter(status=BulkEditStatus.PAUSED).update(**values)
