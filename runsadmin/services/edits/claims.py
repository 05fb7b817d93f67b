"""The exclusive right to push or reconcile an edit: a conditional UPDATE sets a token and an expiry time."""

import datetime as dt
import logging
import random
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from django.db import IntegrityError, connection, transaction
from django.db.models import Case, Exists, F, Q, QuerySet, When
from django.db.models.functions import Coalesce
from structlog.contextvars import bound_contextvars

from runsadmin import conf
from runsadmin.models import BulkEdit, Edit, EditStatus
from runsadmin.models.bulk_edit import IN_PROGRESS
from runsadmin.models.edit import IN_FLIGHT, EditQuerySet
from runsadmin.services import clock, permissions

logger = logging.getLogger("runsadmin.services.edits")

# The claim of a single edit lasts this much longer than its two requests may take.
SLACK = dt.timedelta(seconds=4)
# The lease of a batch claim. A process renews its leases; if it dies, its edits are free again after this time.
LEASE = dt.timedelta(seconds=6)
# The pause before an interrupted edit is due again.
SOON = dt.timedelta(seconds=1)
# If this many processes died while they worked on an edit, it is worked on alone; if this many, it fails.
SUSPECT, MAX_DEATHS = 2, 3
# An edit that may have been sent does not fail after MAX_DEATHS. It is reconciled after the first of these pauses. The
# pause doubles with each further death, up to the last of them.
FIRST_DEADLY_PAUSE, LAST_DEADLY_PAUSE = dt.timedelta(seconds=30), dt.timedelta(hours=1)
# The first and the longest pause after a failed attempt, in seconds.
FIRST_BACKOFF, LAST_BACKOFF = 1.0, 300.0


@dataclass(frozen=True)
class Claim:
    """The right to work on one edit, until the expiry time in its row."""

    edit: Edit
    token: uuid.UUID

    @property
    def is_permitted(self) -> bool:
        """Whether its actor may still edit metadata: the permission may have been revoked by now."""
        return permissions.may(self.edit.actor, permissions.Action.EDIT_METADATA)

    @property
    def row(self) -> EditQuerySet:
        return Edit.objects.filter(pk=self.edit.pk, claim_token=self.token)

    def list_position(self) -> tuple[int, float, int]:
        """Sorts edits as upstream lists their runs: by thread, newest first."""
        run = self.edit.run
        return (run.thread_id, -run.created_at.timestamp(), -run.pk)

    @property
    def is_unknown(self) -> bool:
        """Whether the edit has to be reconciled rather than pushed."""
        return self.edit.status == EditStatus.UNKNOWN

    def log_step(self, step: str) -> None:
        if logger.isEnabledFor(logging.DEBUG):
            with self.log_context():
                logger.debug("Edit %s: %s.", self.edit.pk, step, extra={"edit": self.edit.pk, "step": step})

    def log_context(self) -> AbstractContextManager[None]:
        """Adds the edit, its actor and the request that recorded it to all log lines."""
        edit = self.edit
        return bound_contextvars(edit=edit.pk, request_id=edit.request_id, user=edit.actor.get_username())


def reload(edit: Edit) -> Edit:
    return Edit.objects.select_related("run__thread", "actor", "bulk_edit", "undoes").get(pk=edit.pk)


# --- One edit


def claim(edit: Edit) -> Claim | None:
    """Claims an edit for pushing.

    Returns None if another process has claimed it, or if other edits of its run come first.
    """
    free = Edit.objects.filter(pk=edit.pk, status=EditStatus.PENDING).exclude(Exists(_preceding(edit)))
    until = clock.now() + _for_two_requests(edit)
    token = uuid.uuid4()
    try:
        claimed = free.filter(_NOT_RESTORED).transition_to(EditStatus.SENDING, claim_token=token, claimed_until=until)
    except IntegrityError:  # Another process has just claimed another edit of this run.
        return None
    return Claim(reload(edit), token) if claimed else None


def comes_before(edit: Edit) -> Edit | None:
    """The edit that this one waits for, if any: the one in flight on the same run, otherwise the oldest earlier one."""
    preceding = _preceding(edit).exclude(pk=edit.pk)
    in_flight_first = Case(When(status__in=IN_FLIGHT, then=0), default=1)
    return preceding.select_related("run", "bulk_edit").defer("run__raw").order_by(in_flight_first, "pk").first()


def claim_unknown(edit: Edit) -> Claim | None:
    """Claims an unknown edit for reconciling."""
    token, now = uuid.uuid4(), clock.now()
    free = Edit.objects.free(now).filter(pk=edit.pk, status=EditStatus.UNKNOWN)
    claimed = free.update(claim_token=token, claimed_until=now + _for_two_requests(edit))
    return Claim(reload(edit), token) if claimed else None


# --- Many edits


def claim_due(alias: str, limit: int, *, only_unknown: bool = False) -> list[Claim]:
    """Claims at most `limit` due edits of a connection, for pushing or reconciling.

    Unknown edits come first, then single edits; bulk edits share the rest evenly.
    """
    token, now = uuid.uuid4(), clock.now()
    with transaction.atomic(durable=True):
        unknown = [pk for pk, _ in _lock(_due(now, EditStatus.UNKNOWN, _of(alias)), limit)]
        pending = [] if only_unknown else _pending(alias, now, limit - len(unknown))
        claimed = _claim_all(unknown, pending, token, now + LEASE)
    return _claims(claimed, token)


def claim_suspect(alias: str, *, only_unknown: bool = False) -> list[Claim]:
    """Claims at most one due edit that SUSPECT or more processes worked on when they died.

    The process must work on no other edit of this connection meanwhile: if it dies as well, none of these is to blame.
    """
    if not Edit.objects.filter(_IS_SUSPECT, status__in=(EditStatus.PENDING, EditStatus.UNKNOWN)).exists():
        return []  # This does not take SQLite's write lock.
    token, now = uuid.uuid4(), clock.now()
    in_progress = list(BulkEdit.objects.filter(connection=alias, status__in=IN_PROGRESS).values_list("pk", flat=True))
    with transaction.atomic(durable=True):
        unknown = [pk for pk, _ in _lock(_due(now, EditStatus.UNKNOWN, _of(alias), _IS_SUSPECT), 1)]
        pending: Collection[int] = ()
        if not unknown and not only_unknown:
            of_alias = _of_single(alias) | Q(bulk_edit__in=in_progress)
            due = _due(now, EditStatus.PENDING, of_alias, _IS_SUSPECT)
            pending = _first_of_runs(due, 1, waits_for=[None, *in_progress])
        claimed = _claim_all(unknown, pending, token, now + LEASE)
    return _claims(claimed, token)


def _claim_all(
    unknown: Collection[int], pending: Collection[int], token: uuid.UUID, until: dt.datetime
) -> Collection[int]:
    """Returns which of these edits were claimed."""
    if pending:
        try:
            with transaction.atomic():
                free = Edit.objects.filter(pk__in=pending, status=EditStatus.PENDING)
                free.transition_to(EditStatus.SENDING, claim_token=token, claimed_until=until)
        except IntegrityError:  # Another process has claimed another edit of one of these runs. Try again later.
            pending = ()
    if unknown:
        Edit.objects.filter(pk__in=unknown, status=EditStatus.UNKNOWN).update(claim_token=token, claimed_until=until)
    return [*unknown, *pending]


def _claims(keys: Collection[int], token: uuid.UUID) -> list[Claim]:
    if not keys:
        return []
    claimed = Edit.objects.filter(pk__in=keys, claim_token=token).order_by("pk")
    # Prefetch what many edits share: threads, accounts and bulk edits. Other columns of the run are not needed.
    slim = claimed.select_related("run").only(*_NEEDED).prefetch_related("run__thread", "actor", "bulk_edit", "undoes")
    return [Claim(edit, token) for edit in slim]


_NEEDED = (
    "run__connection", "run__upstream_id", "run__thread_id", "run__created_at", "run__expires_at", "actor_id",
    "bulk_edit_id", "request_id", "base", "patch", "before", "intended", "status", "wait_reason", "waiting_since",
    "detail", "attempts", "deaths", "refusals", "sent_at", "undoes_id",
)  # fmt: skip


def has_backlog(alias: str) -> bool:
    """Whether more edits are due than one process claims at a time."""
    limit = 4 * conf.connection(alias).concurrency
    in_progress = BulkEdit.objects.filter(connection=alias, status__in=IN_PROGRESS).values_list("pk", flat=True)
    now, count = clock.now(), 0
    for condition in (_of_single(alias), *(Q(bulk_edit=pk) for pk in in_progress)):
        count += len(_due(now, EditStatus.PENDING, condition).values_list("pk")[: limit + 1 - count])
    return count > limit


def _pending(alias: str, now: dt.datetime, limit: int) -> list[int]:
    found = _first_of_runs(_due(now, EditStatus.PENDING, _of_single(alias)), limit, waits_for=[None])
    taken = set(found.values())  # Single edits come first, and only one edit of a run can be claimed at a time.
    in_progress = BulkEdit.objects.filter(connection=alias, status__in=IN_PROGRESS).order_by("pk")
    waiting = list(in_progress.values_list("pk", flat=True))
    waits_for = [None, *waiting]
    while waiting and len(found) < limit:
        share = -(-(limit - len(found)) // len(waiting))
        due = _due(now, EditStatus.PENDING, Q(bulk_edit=waiting.pop()))
        found |= _first_of_runs(due, share, waits_for=waits_for, except_runs=taken)
    return list(found)


def _first_of_runs(
    due: QuerySet[Edit], limit: int, *, waits_for: Sequence[int | None], except_runs: Collection[int] = ()
) -> dict[int, int]:
    """The due edits that come first in their runs, each with its run. Leaves out the runs in `except_runs`.

    Uses a limited number of queries to skip other edits. Orders the edits of each run in Python: with slightly outdated
    statistics, PostgreSQL would join the whole table.
    """
    found: dict[int, int] = {}
    after = 0
    for _ in range(_MAX_QUERIES):
        some = _lock(due.filter(pk__gt=after), limit - len(found))
        if not some:
            break
        after = some[-1][0]
        rivals = Edit.objects.filter(_NOT_RESTORED, run__in=[run for _, run in some])
        first = dict.fromkeys(except_runs, 0)
        for pk, run, status, bulk_edit in rivals.values_list("pk", "run_id", "status", "bulk_edit_id"):
            if status in IN_FLIGHT:
                first[run] = 0
            elif status == EditStatus.PENDING and bulk_edit in waits_for:
                first[run] = min(pk, first.get(run, pk))
        found |= {pk: run for pk, run in some if first.get(run, pk) == pk}
    return found


_MAX_QUERIES = 10


_IS_SUSPECT = Q(deaths__gte=SUSPECT)
_IS_NO_SUSPECT = Q(deaths=None) | Q(deaths__lt=SUSPECT)
# Pending edits from a backup wait for a user to release them, and meanwhile no other edit waits for them. Unknown ones
# are reconciled, which sends nothing.
_NOT_RESTORED = Q(restored_from=None) | Q(status__in=IN_FLIGHT)


def _due(now: dt.datetime, status: EditStatus, condition: Q, deaths: Q = _IS_NO_SUSPECT) -> QuerySet[Edit]:
    due = Edit.objects.free(now).filter(condition, _NOT_RESTORED, status=status, next_attempt_at__lte=now)
    return due.filter(deaths).order_by("pk")


def _lock(edits: QuerySet[Edit], limit: int) -> list[tuple[int, int]]:
    """Locks at most `limit` edits. Returns the primary keys of the edits and of their runs."""
    if limit <= 0:
        return []
    if connection.features.has_select_for_update_skip_locked:
        edits = edits.select_for_update(of=("self",), skip_locked=True)
    return list(edits.values_list("pk", "run_id")[:limit])


def _of_single(alias: str) -> Q:
    return Q(bulk_edit=None, run__connection=alias)


def _of(alias: str) -> Q:
    """Includes edits of bulk edits that are paused or have ended: an unknown write is always reconciled."""
    return _of_single(alias) | Q(bulk_edit__connection=alias)


# --- Expiry and release


def renew(claims: Iterable[Claim]) -> None:
    """Extends each claim to a full lease."""
    claims = list(claims)
    tokens = {claim.token for claim in claims}
    ours = Edit.objects.filter(pk__in=[claim.edit.pk for claim in claims], claim_token__in=tokens)
    ours.update(claimed_until=clock.now() + LEASE)


def release(rows: EditQuerySet, pause: dt.timedelta = SOON) -> None:
    """Ends claims without an outcome: edits that may have been sent become unknown, the others pending."""
    free = {"claim_token": None, "claimed_until": None, "next_attempt_at": clock.now() + pause}
    sending = rows.filter(status=EditStatus.SENDING)
    sending.filter(intended__isnull=True).transition_to(EditStatus.PENDING, **free)
    detail = "The process was interrupted. The write may already have been sent."
    sending.filter(intended__isnull=False).transition_to(EditStatus.UNKNOWN, detail=detail, **free)
    rows.filter(status=EditStatus.UNKNOWN).update(**free)


def release_expired() -> None:
    """Releases the claims of processes that died or stalled for too long, and counts these deaths.

    An edit that MAX_DEATHS processes worked on when they died fails. If it may have been sent, it stays unknown and is
    reconciled less and less often, since only a fetch can show whether the write happened.
    """
    now = clock.now()
    expired = Edit.objects.filter(status__in=IN_FLIGHT, claimed_until__lt=now)
    if not expired.exists():
        return
    with transaction.atomic():
        expired.update(deaths=Coalesce(F("deaths"), 0) + 1)
        deadly = expired.filter(deaths__gte=MAX_DEATHS)
        _fail(deadly.filter(intended=None), f"{MAX_DEATHS} processes died while they worked on it. See their logs.")
        for deaths in filter(None, set(deadly.values_list("deaths", flat=True))):
            doublings = min(deaths - MAX_DEATHS, 10)
            release(deadly.filter(deaths=deaths), min(FIRST_DEADLY_PAUSE * 2**doublings, LAST_DEADLY_PAUSE))
        release(expired)


def _fail(rows: EditQuerySet, detail: str) -> None:
    rows.transition_to(
        EditStatus.FAILED,
        detail=detail,
        finished_at=clock.now(),
        claim_token=None,
        claimed_until=None,
        next_attempt_at=None,
        wait_reason=Edit.WaitReason.TURN,
    )


# --- Internal errors


@contextmanager
def processing(claim: Claim) -> Iterator[None]:
    """A context for work on one edit: log lines name the edit, and an internal error releases its claim."""
    with claim.log_context():
        try:
            yield
        except Exception as error:
            logger.exception("Processing edit %s failed with an internal error.", claim.edit.pk)
            record_crash(claim, error)
            raise


def record_crash(claim: Claim, error: Exception, *, is_unsent: bool = False) -> None:
    """Releases a claim after an internal error. This counts as an attempt, so that the edit is not retried forever.

    With `is_unsent`, nothing was sent, so the edit becomes pending even if its intent was stored.
    """
    if is_unsent:
        claim.row.filter(status=EditStatus.SENDING).update(before=None, intended=None, sent_at=None)
    attempts = claim.edit.attempts + 1
    claim.row.update(attempts=attempts)
    why = f"The last attempt failed with an internal error ({type(error).__name__}); see the log."
    if attempts >= conf.max_attempts() and not claim.is_unknown:
        _fail(claim.row.filter(intended=None), f"Tried {attempts} times. {why}")
    claim.row.update(detail=why, wait_reason=Edit.WaitReason.RETRY)
    release(claim.row, backoff(attempts))


def backoff(attempts: int) -> dt.timedelta:
    """The pause after this many failed attempts."""
    seconds = min(FIRST_BACKOFF * 2 ** (attempts - 1), LAST_BACKOFF)
    return dt.timedelta(seconds=seconds * random.uniform(0.5, 1.0))  # noqa: S311


def _preceding(edit: Edit) -> QuerySet[Edit]:
    """The edits of the same run that come before an edit: those in flight, and older ones that wait to be sent.

    Single edits do not wait for bulk edits, and no edit waits for a paused bulk edit, or for an edit that a user has to
    release.
    """
    waiting = Q(bulk_edit=None)
    if edit.bulk_edit_id is not None:
        waiting |= Q(bulk_edit__status__in=IN_PROGRESS)
    return Edit.objects.filter(run=edit.run_id).filter(
        Q(status__in=IN_FLIGHT) | (Q(pk__lt=edit.pk, status=EditStatus.PENDING, restored_from=None) & waiting)
    )


def _for_two_requests(edit: Edit) -> dt.timedelta:
    return 2 * edit.run.connection_settings.timeout + SLACK
