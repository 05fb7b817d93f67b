"""The right to push or reconcile an edit: taken by a conditional UPDATE, held by a token, and running out by itself."""

import datetime as dt
import logging
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from django.db import IntegrityError, connection, transaction
from django.db.models import Case, Exists, OuterRef, Q, QuerySet, When

from runsadmin import conf, log_context
from runsadmin.models import BulkEdit, Edit, EditStatus
from runsadmin.models.bulk_edit import IN_PROGRESS
from runsadmin.models.bulk_sql import update_rows
from runsadmin.models.edit import IN_FLIGHT, EditQuerySet
from runsadmin.services import clock

logger = logging.getLogger("runsadmin.services.edits")

# How much longer the claim of a single edit lasts than the two requests that it is for.
SLACK = dt.timedelta(seconds=4)
# How long a claim of many edits lasts, unless its process says again that it is at it: not much longer than that, and
# the edits of a process that died go on.
LEASE = dt.timedelta(seconds=6)
# After an interruption, how long it takes until somebody looks.
SOON = dt.timedelta(seconds=1)


@dataclass(frozen=True)
class Claim:
    """The right to bring one edit on, until the time that stands in its row."""

    edit: Edit
    token: uuid.UUID

    @property
    def row(self) -> EditQuerySet:
        return Edit.objects.filter(pk=self.edit.pk, claim_token=self.token)

    @property
    def alias(self) -> str:
        return str(self.edit.run.connection)

    @property
    def timeout(self) -> dt.timedelta:
        """The longest that one request may take."""
        return dt.timedelta(seconds=conf.connection(self.alias).timeout)

    @property
    def is_unknown(self) -> bool:
        """Whether it is to be reconciled. Otherwise it is to be pushed."""
        return self.edit.status == EditStatus.UNKNOWN

    def step(self, step: str) -> None:
        """Tells the log how far it has come."""
        if logger.isEnabledFor(logging.DEBUG):
            with self.tracing():
                logger.debug("Edit %s: %s.", self.edit.pk, step, extra={"edit": self.edit.pk, "step": step})

    def tracing(self) -> AbstractContextManager[None]:
        edit = self.edit
        return log_context.about_edit(edit.pk, request_id=edit.request_id, username=edit.actor.get_username())


def reload(edit: Edit) -> Edit:
    return Edit.objects.select_related("run__thread", "actor", "bulk_edit", "undoes").get(pk=edit.pk)


# --- One edit


def claim(edit: Edit) -> Claim | None:
    """To push it, if it is its turn: the oldest unsettled edit of a run, and only while none of that run is in flight.

    None when others of its run come first, or somebody else is at it.
    """
    earlier = _earlier(OuterRef("run"), OuterRef("pk"), single=edit.bulk_edit_id is None)
    free = Edit.objects.filter(~Exists(earlier), pk=edit.pk, status=EditStatus.PENDING)
    until = clock.now() + _for_two_requests(edit.run.connection)
    token = uuid.uuid4()
    try:
        claimed = free.update(status=EditStatus.SENDING, claim_token=token, claimed_until=until)
    except IntegrityError:  # Another process claimed another edit of this run between our condition and our write.
        return None
    return Claim(reload(edit), token) if claimed else None


def comes_before(edit: Edit) -> Edit | None:
    """What comes before it: the edit of its run in flight, or else the oldest that waits. None: it is its turn."""
    earlier = _earlier(edit.run_id, edit.pk, single=edit.bulk_edit_id is None).exclude(pk=edit.pk)
    in_flight_first = Case(When(status__in=IN_FLIGHT, then=0), default=1)
    return earlier.select_related("run", "bulk_edit").defer("run__raw").order_by(in_flight_first, "pk").first()


def claim_unknown(edit: Edit) -> Claim | None:
    """To reconcile it."""
    token, now = uuid.uuid4(), clock.now()
    free = Edit.objects.free(now).filter(pk=edit.pk, status=EditStatus.UNKNOWN)
    claimed = free.update(claim_token=token, claimed_until=now + _for_two_requests(edit.run.connection))
    return Claim(reload(edit), token) if claimed else None


# --- Many edits


def claim_due(alias: str, limit: int, *, only_unknown: bool = False) -> list[Claim]:
    """At most `limit` edits of a connection whose time has come, each to be pushed or reconciled.

    Lost answers first, then single edits, then bulk edits: what is left is shared out among those evenly.
    """
    token, now = uuid.uuid4(), clock.now()
    until = now + LEASE
    with transaction.atomic(durable=True):
        unknown = [pk for pk, _ in _lock(_due(now, EditStatus.UNKNOWN, of=_of(alias)), limit)]
        pending = [] if only_unknown else _pending(alias, now, limit - len(unknown))
        try:
            with transaction.atomic():
                Edit.objects.filter(pk__in=pending, status=EditStatus.PENDING).update(
                    status=EditStatus.SENDING, claim_token=token, claimed_until=until
                )
        except IntegrityError:  # Another process claimed another edit of one of these runs. The next round knows.
            pending = []
        Edit.objects.filter(pk__in=unknown, status=EditStatus.UNKNOWN).update(claim_token=token, claimed_until=until)
    claimed = Edit.objects.filter(pk__in=[*unknown, *pending], claim_token=token).order_by("pk")
    # Many edits share a few threads, accounts and bulk edits. What else the mirror holds of a run is not asked for.
    slim = claimed.select_related("run").only(*_NEEDED).prefetch_related("run__thread", "actor", "bulk_edit", "undoes")
    return [Claim(edit, token) for edit in slim]


_NEEDED = (
    "run__connection", "run__upstream_id", "run__thread_id", "run__created_at", "run__expires_at", "actor_id",
    "bulk_edit_id", "request_id", "base", "patch", "before", "intended", "status", "wait_reason", "waiting_since",
    "attempts", "refusals", "sent_at", "undoes_id",
)  # fmt: skip


def has_backlog(alias: str) -> bool:
    """More than one process has in its hands at a time."""
    most = 4 * conf.connection(alias).concurrency
    in_progress = BulkEdit.objects.filter(connection=alias, status__in=IN_PROGRESS).values_list("pk", flat=True)
    now, count = clock.now(), 0
    for of in (_of_single(alias), *(Q(bulk_edit=pk) for pk in in_progress)):
        count += len(_due(now, EditStatus.PENDING, of=of).values_list("pk")[: most + 1 - count])
    return count > most


def _pending(alias: str, now: dt.datetime, limit: int) -> list[int]:
    found = _next(_due(now, EditStatus.PENDING, of=_of_single(alias)), limit, waits_for=[None])
    taken = set(found.values())  # A single edit overtakes: of its run nothing else can be claimed with it.
    in_progress = BulkEdit.objects.filter(connection=alias, status__in=IN_PROGRESS).order_by("pk")
    waiting = list(in_progress.values_list("pk", flat=True))
    waits_for = [None, *waiting]
    while waiting and len(found) < limit:
        share = -(-(limit - len(found)) // len(waiting))
        due = _due(now, EditStatus.PENDING, of=Q(bulk_edit=waiting.pop()))
        found |= _next(due, share, waits_for=waits_for, apart_from=taken)
    return list(found)


def _next(
    due: QuerySet[Edit], limit: int, *, waits_for: Sequence[int | None], apart_from: Collection[int] = ()
) -> dict[int, int]:
    """Those whose turn it is, and their runs, which are none of `apart_from`.

    Looks past the ones whose turn it is not, but not for ever.
    Who comes before whom is asked by run, and judged here: planners that know a column's statistics of a minute ago
    make a join of the whole table of it.
    """
    found: dict[int, int] = {}
    after = 0
    for _ in range(_MOST_LOOKS):
        some = _lock(due.filter(pk__gt=after), limit - len(found))
        if not some:
            break
        after = some[-1][0]
        rivals = Edit.objects.filter(run__in=[run for _, run in some])
        first = dict.fromkeys(apart_from, 0)
        for pk, run, status, bulk_edit in rivals.values_list("pk", "run_id", "status", "bulk_edit_id"):
            if status in IN_FLIGHT:
                first[run] = 0
            elif status == EditStatus.PENDING and bulk_edit in waits_for:
                first[run] = min(pk, first.get(run, pk))
        found |= {pk: run for pk, run in some if first.get(run, pk) == pk}
    return found


_MOST_LOOKS = 10


def _due(now: dt.datetime, status: EditStatus, *, of: Q) -> QuerySet[Edit]:
    return Edit.objects.free(now).filter(of, status=status, next_attempt_at__lte=now).order_by("pk")


def _lock(edits: QuerySet[Edit], limit: int) -> list[tuple[int, int]]:
    """The keys of edits and of their runs."""
    if limit <= 0:
        return []
    if connection.features.has_select_for_update_skip_locked:
        edits = edits.select_for_update(of=("self",), skip_locked=True)
    return list(edits.values_list("pk", "run_id")[:limit])


def _of_single(alias: str) -> Q:
    return Q(bulk_edit=None, run__connection=alias)


def _of(alias: str) -> Q:
    """Also of bulk edits that are paused or ended: what may have been sent is looked after in any case."""
    return _of_single(alias) | Q(bulk_edit__connection=alias)


# --- Writing to many at once


def write(
    rows: Sequence[tuple[Claim, Mapping[str, object]]],
    *,
    sources: Sequence[str] = (EditStatus.SENDING.value,),
    lasting_until: dt.datetime | None = None,
) -> int:
    """Sets the same columns of many claimed rows, each to its own values, in one go.

    Leaves those alone that are not in one of these statuses, or whose claim was lost or ends too soon. Returns how
    many it wrote.
    """
    also = f" AND status IN ({', '.join(['%s'] * len(sources))})"
    parameters: list[object] = [*sources]
    if lasting_until is not None:
        also += " AND claimed_until >= %s"
        parameters.append(connection.ops.adapt_datetimefield_value(lasting_until))
    return update_rows(
        Edit,
        [(values, {"id": claim.edit.pk, "claim_token": claim.token}) for claim, values in rows],
        also=also,
        parameters=parameters,
    )


# --- What runs out, and what is given back


def renew(claims: Iterable[Claim]) -> None:
    """From now on they last for a whole lease again."""
    rows(claims).update(claimed_until=clock.now() + LEASE)


def release(rows: QuerySet[Edit], pause: dt.timedelta = SOON) -> None:
    """Frees claims that brought no outcome: what may have been sent is unknown, the rest is pending."""
    free = {"claim_token": None, "claimed_until": None, "next_attempt_at": clock.now() + pause}
    sending = rows.filter(status=EditStatus.SENDING)
    sending.filter(intended__isnull=True).update(status=EditStatus.PENDING, **free)
    sending.filter(intended__isnull=False).update(
        status=EditStatus.UNKNOWN, detail="It was interrupted when it may have been sent.", **free
    )
    rows.filter(status=EditStatus.UNKNOWN).update(**free)


def release_expired() -> None:
    """The claims of processes that died, or stood still for too long."""
    release(Edit.objects.filter(status__in=IN_FLIGHT, claimed_until__lt=clock.now()))


def rows(claims: Iterable[Claim]) -> EditQuerySet:
    """The rows of these claims, as far as they still stand."""
    claims = list(claims)
    tokens = {claim.token for claim in claims}
    return Edit.objects.filter(pk__in=[claim.edit.pk for claim in claims], claim_token__in=tokens)


def _earlier(run: int | OuterRef, pk: int | OuterRef, *, single: bool) -> QuerySet[Edit]:
    """Those that come before an edit: of the same run, in flight, or older and waiting to be sent.

    Single edits wait for no bulk edit, and nobody waits for one that is paused.
    """
    waiting = Q(bulk_edit=None) if single else Q(bulk_edit=None) | Q(bulk_edit__status__in=IN_PROGRESS)
    return Edit.objects.filter(run=run).filter(
        Q(status__in=IN_FLIGHT) | Q(waiting, status=EditStatus.PENDING, pk__lt=pk)
    )


def _for_two_requests(alias: str) -> dt.timedelta:
    return dt.timedelta(seconds=2 * conf.connection(alias).timeout) + SLACK
