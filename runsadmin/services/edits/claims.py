"""The right to push or reconcile an edit: taken by a conditional UPDATE, held by a token, and running out by itself."""

import datetime as dt
import logging
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from django.db import IntegrityError, connection, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from runsadmin import conf, tracing
from runsadmin.models import BulkEdit, Edit, EditStatus
from runsadmin.models.bulk_edit import GOING_ON
from runsadmin.models.edit import IN_FLIGHT, EditQuerySet
from runsadmin.models.statements import update_each
from runsadmin.services import clock

logger = logging.getLogger("runsadmin.services.edits")

# How much longer a claim lasts than the two requests that it is for.
SLACK = dt.timedelta(seconds=4)
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
        return tracing.about_edit(edit.pk, request_id=edit.request_id, username=edit.actor.get_username())


def reload(edit: Edit) -> Edit:
    return Edit.objects.select_related("run__thread", "actor", "bulk_edit").get(pk=edit.pk)


# --- One edit


def claim(edit: Edit) -> Claim | None:
    """To push it, if it is its turn: the oldest unsettled edit of a run, and only while none of that run is in flight.

    None when others of its run come first, or somebody else is at it.
    """
    earlier = _earlier(single=edit.bulk_edit_id is None)
    free = Edit.objects.filter(~Exists(earlier), pk=edit.pk, status=EditStatus.PENDING)
    until = clock.now() + _for_two_requests(edit.run.connection)
    token = uuid.uuid4()
    try:
        claimed = free.update(status=EditStatus.SENDING, claim_token=token, claimed_until=until)
    except IntegrityError:  # Another process claimed another edit of this run between our condition and our write.
        return None
    return Claim(reload(edit), token) if claimed else None


def claim_unknown(edit: Edit) -> Claim | None:
    """To reconcile it."""
    token, now = uuid.uuid4(), clock.now()
    free = Edit.objects.filter(Q(claimed_until=None) | Q(claimed_until__lt=now), pk=edit.pk, status=EditStatus.UNKNOWN)
    claimed = free.update(claim_token=token, claimed_until=now + _for_two_requests(edit.run.connection))
    return Claim(reload(edit), token) if claimed else None


# --- Many edits


def claim_due(alias: str, limit: int) -> list[Claim]:
    """At most `limit` edits of a connection whose time has come, each to be pushed or reconciled.

    Lost answers first, then single edits, then bulk edits: what is left is shared out among those evenly.
    """
    token, now = uuid.uuid4(), clock.now()
    until = now + _for_two_requests(alias)
    with transaction.atomic(durable=True):
        unknown = _some(_due(now, status=EditStatus.UNKNOWN, of=_of_single(alias) | _of_bulk(alias)), limit)
        pending = _some_pending(alias, now, limit - len(unknown))
        try:
            with transaction.atomic():
                Edit.objects.filter(pk__in=pending, status=EditStatus.PENDING).update(
                    status=EditStatus.SENDING, claim_token=token, claimed_until=until
                )
        except IntegrityError:  # Another process claimed another edit of one of these runs. The next round knows.
            pending = []
        Edit.objects.filter(pk__in=unknown, status=EditStatus.UNKNOWN).update(claim_token=token, claimed_until=until)
    claimed = Edit.objects.filter(pk__in=[*unknown, *pending], claim_token=token).order_by("pk")
    # Many edits share a few threads, accounts and bulk edits. What the mirror holds of a run is not asked for here.
    shared = claimed.select_related("run").defer("run__raw").prefetch_related("run__thread", "actor", "bulk_edit")
    return [Claim(edit, token) for edit in shared]


def are_many_due(alias: str) -> bool:
    """More than one process has in its hands at a time."""
    most = 2 * conf.connection(alias).concurrency
    waiting = Edit.objects.filter(
        Q(bulk_edit=None, run__connection=alias) | Q(bulk_edit__connection=alias, bulk_edit__status__in=GOING_ON),
        status=EditStatus.PENDING,
        next_attempt_at__lte=clock.now(),
    )
    return len(waiting.values_list("pk")[: most + 1]) > most


def _some_pending(alias: str, now: dt.datetime, limit: int) -> list[int]:
    pending = EditStatus.PENDING
    found = _some(_due(now, status=pending, of=_of_single(alias)).filter(~Exists(_earlier(single=True))), limit)
    bulk_edits = list(BulkEdit.objects.filter(connection=alias, status__in=GOING_ON).order_by("pk"))
    while bulk_edits and len(found) < limit:
        share = -(-(limit - len(found)) // len(bulk_edits))
        due = _due(now, status=pending, of=Q(bulk_edit=bulk_edits.pop()))
        found += _some(due.filter(~Exists(_earlier(single=False))), share)
    return found


def _due(now: dt.datetime, *, status: EditStatus, of: Q) -> QuerySet[Edit]:
    free = Q(claimed_until=None) | Q(claimed_until__lt=now)
    return Edit.objects.filter(of, free, status=status, next_attempt_at__lte=now).order_by("next_attempt_at", "pk")


def _some(edits: QuerySet[Edit], limit: int) -> list[int]:
    if limit <= 0:
        return []
    if connection.features.has_select_for_update_skip_locked:
        edits = edits.select_for_update(of=("self",), skip_locked=True)
    return list(edits.values_list("pk", flat=True)[:limit])


def _of_single(alias: str) -> Q:
    return Q(bulk_edit=None, run__connection=alias)


def _of_bulk(alias: str) -> Q:
    """Also of those that are paused or ended: what may have been sent is looked after in any case."""
    return Q(bulk_edit__connection=alias)


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
    return update_each(
        Edit,
        [(values, {"id": claim.edit.pk, "claim_token": claim.token}) for claim, values in rows],
        also=also,
        parameters=parameters,
    )


# --- What runs out, and what is given back


def give_back(rows: QuerySet[Edit], pause: dt.timedelta = SOON) -> None:
    """Frees claims that brought no outcome: what may have been sent is unknown, the rest is pending."""
    free = {"claim_token": None, "claimed_until": None, "next_attempt_at": clock.now() + pause}
    sending = rows.filter(status=EditStatus.SENDING)
    sending.filter(intended__isnull=True).update(status=EditStatus.PENDING, **free)
    sending.filter(intended__isnull=False).update(
        status=EditStatus.UNKNOWN, detail="It was interrupted when it may have been sent.", **free
    )
    rows.filter(status=EditStatus.UNKNOWN).update(**free)


def give_back_expired() -> None:
    """The claims of processes that died, or stood still for too long."""
    give_back(Edit.objects.filter(status__in=IN_FLIGHT, claimed_until__lt=clock.now()))


def of(claims: Iterable[Claim]) -> EditQuerySet:
    """The rows of these claims, as far as they still stand."""
    claims = list(claims)
    tokens = {claim.token for claim in claims}
    return Edit.objects.filter(pk__in=[claim.edit.pk for claim in claims], claim_token__in=tokens)


def _earlier(*, single: bool) -> QuerySet[Edit]:
    """Those that come before an edit: of the same run, in flight, or older and waiting to be sent.

    Single edits wait for no bulk edit, and nobody waits for one that is paused.
    """
    waiting = Q(bulk_edit=None) if single else Q(bulk_edit=None) | Q(bulk_edit__status__in=GOING_ON)
    return Edit.objects.filter(run=OuterRef("run")).filter(
        Q(status__in=IN_FLIGHT) | Q(waiting, status=EditStatus.PENDING, pk__lt=OuterRef("pk"))
    )


def _for_two_requests(alias: str) -> dt.timedelta:
    return dt.timedelta(seconds=2 * conf.connection(alias).timeout) + SLACK
