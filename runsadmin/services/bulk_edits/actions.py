"""User actions on bulk edits, which of them are possible now, and the status changes that workers make.

The edits of a bulk edit are pushed like all others (services/edits), but only while the bulk edit is in progress.
"""

import datetime as dt
from collections.abc import Collection
from enum import StrEnum

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Exists, OuterRef, Q

from runsadmin import conf
from runsadmin.errors import InvalidTransition
from runsadmin.models import BulkEdit, BulkEditStatus, Edit, EditStatus
from runsadmin.models.bulk_edit import IN_PROGRESS, BulkEditQuerySet
from runsadmin.models.edit import ENDED, IN_FLIGHT, UNSETTLED
from runsadmin.services import clock, edits, permissions
from runsadmin.services.bulk_edits.progress import Progress, progress
from runsadmin.services.edits import rewrites
from runsadmin.services.permissions import Action

S = BulkEditStatus


class BulkEditAction(StrEnum):
    """What users can do with a bulk edit."""

    APPLY = "apply"
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"  # Discards a plan that has not been applied.
    RETRY = "retry"
    UNDO = "undo"


def permitted_actions(bulk_edit: BulkEdit, actor: User, *, counts: Progress | None = None) -> frozenset[BulkEditAction]:
    """What this actor may do with the bulk edit in its current state. If `counts` is given, no edits are counted."""
    return frozenset(
        action
        for action in possible_actions(bulk_edit, counts=counts)
        if all(permissions.may(actor, needed) for needed in _needed_permissions(bulk_edit, action))
    )


def possible_actions(bulk_edit: BulkEdit, *, counts: Progress | None = None) -> frozenset[BulkEditAction]:
    """What the state of the bulk edit allows now, regardless of the actor."""
    possible: set[BulkEditAction] = set()
    match bulk_edit.status:
        case S.PLANNING:
            possible.add(BulkEditAction.CANCEL)
        case S.PLANNED:
            possible.add(BulkEditAction.CANCEL)
            if not is_expired(bulk_edit) and (counts or progress(bulk_edit)).total:
                possible.add(BulkEditAction.APPLY)
        case status if status in IN_PROGRESS:
            possible |= {BulkEditAction.PAUSE, BulkEditAction.CANCEL}
        case S.PAUSED:
            possible |= {BulkEditAction.RESUME, BulkEditAction.CANCEL}
        case _:
            counts = counts or progress(bulk_edit)
            if bulk_edit.status == S.COMPLETED and counts.count(EditStatus.FAILED):
                possible.add(BulkEditAction.RETRY)
            if counts.count(EditStatus.APPLIED, EditStatus.DIFFERS) and not counts.count(*IN_FLIGHT):
                possible.add(BulkEditAction.UNDO)
    if bulk_edit.connection not in conf.upstreams():
        possible &= {BulkEditAction.CANCEL}
    return frozenset(possible)


def _needed_permissions(bulk_edit: BulkEdit, action: BulkEditAction) -> Collection[Action]:
    """The permissions that an action needs; an actor must have all of them."""
    match action:
        case BulkEditAction.APPLY | BulkEditAction.RESUME | BulkEditAction.RETRY:  # They send edits.
            return (Action.APPLY_BULK_EDITS, Action.EDIT_METADATA)
        case BulkEditAction.UNDO:
            return (Action.PLAN_BULK_EDITS,)
        case BulkEditAction.CANCEL if bulk_edit.status in (S.PLANNING, S.PLANNED):
            return (Action.PLAN_BULK_EDITS,)
        case _:
            return (Action.APPLY_BULK_EDITS,)


def _require(actor: User, bulk_edit: BulkEdit, action: BulkEditAction) -> None:
    """Raises NotAllowed."""
    for needed in _needed_permissions(bulk_edit, action):
        permissions.require(actor, needed)


def is_expired(bulk_edit: BulkEdit) -> bool:
    """Whether this is a plan that can no longer be applied, even if no worker has marked it as expired yet."""
    is_plan = bulk_edit.status == S.PLANNED
    return is_plan and bulk_edit.expires_at is not None and bulk_edit.expires_at <= clock.now()


# --- Actions of users


def apply(*, bulk_edit: BulkEdit, actor: User) -> BulkEdit:
    """Releases the edits of a plan for sending: all of them or, with a canary, only the first few.

    Raises NotAllowed, InvalidTransition, UnknownConnection or ReadOnlyConnection.
    """
    _require(actor, bulk_edit, BulkEditAction.APPLY)
    conf.upstream(bulk_edit.connection)
    now = clock.now()
    _expire(BulkEdit.objects.filter(pk=bulk_edit.pk, expires_at__lte=now))
    with transaction.atomic():
        bulk_edit = BulkEdit.objects.filter(status=S.PLANNED).move(
            bulk_edit,
            S.QUEUED,
            "Only a complete plan that has not expired can be applied",
            applied_by=actor,
            applied_at=now,
            running_since=now,
            ended_before=_ended(bulk_edit),
            active_until=None if bulk_edit.wait_for_active is None else now + bulk_edit.wait_for_active,
        )
        _take_over(bulk_edit, actor)
        _release(bulk_edit, now, limit=bulk_edit.canary)
    return bulk_edit


def pause(*, bulk_edit: BulkEdit, actor: User) -> BulkEdit:
    """Pauses a bulk edit. Edits in flight finish. Raises NotAllowed or InvalidTransition."""
    _require(actor, bulk_edit, BulkEditAction.PAUSE)
    detail = f"{actor.get_username()} paused it."
    return BulkEdit.objects.move(bulk_edit, S.PAUSED, "Only a bulk edit in progress can be paused", detail=detail)


def resume(*, bulk_edit: BulkEdit, actor: User) -> BulkEdit:
    """Continues with all remaining edits.

    If upstream has changed keys that an edit did not touch, resuming accepts such changes.
    Raises NotAllowed, InvalidTransition, UnknownConnection or ReadOnlyConnection.
    """
    _require(actor, bulk_edit, BulkEditAction.RESUME)
    conf.upstream(bulk_edit.connection)
    now = clock.now()
    with transaction.atomic():
        bulk_edit = BulkEdit.objects.filter(status=S.PAUSED).move(
            bulk_edit,
            S.QUEUED,
            "Only a paused bulk edit can be resumed",
            detail="",
            running_since=now,
            ended_before=_ended(bulk_edit),
            accepts_rewrites=rewrites.ACCEPTED,
        )
        _take_over(bulk_edit, actor)
        _release(bulk_edit, now)
    return bulk_edit


def cancel(*, bulk_edit: BulkEdit, actor: User) -> BulkEdit:
    """Cancels a bulk edit and its unsent edits. Edits in flight finish. Raises NotAllowed or InvalidTransition."""
    bulk_edit = BulkEdit.objects.get(pk=bulk_edit.pk)
    _require(actor, bulk_edit, BulkEditAction.CANCEL)
    with transaction.atomic():
        bulk_edit = BulkEdit.objects.move(
            bulk_edit,
            S.CANCELLED,
            "Only a bulk edit that has not ended can be cancelled",
            detail=f"{actor.get_username()} cancelled it.",
            finished_at=clock.now(),
        )
        cancel_unsent(bulk_edit)
    return bulk_edit


def retry(*, bulk_edit: BulkEdit, actor: User) -> BulkEdit:
    """Retries the failed edits of a completed bulk edit.

    Raises NotAllowed, InvalidTransition, UnknownConnection or ReadOnlyConnection.
    """
    _require(actor, bulk_edit, BulkEditAction.RETRY)
    conf.upstream(bulk_edit.connection)
    with transaction.atomic():
        bulk_edit = BulkEdit.objects.select_for_update().get(pk=bulk_edit.pk)
        moved = 0
        if bulk_edit.status == S.COMPLETED:
            its_edits = Edit.objects.filter(bulk_edit=bulk_edit)
            moved = edits.try_again(its_edits, bulk_edit=bulk_edit, by=actor)
    bulk_edit.refresh_from_db()
    if not moved:
        state = bulk_edit.get_status_display().lower()
        why = "none of its edits has failed" if bulk_edit.status == S.COMPLETED else f"this one is {state}"
        raise InvalidTransition(f"Only a completed bulk edit with failed edits can be retried; {why}.")
    return bulk_edit


def _take_over(bulk_edit: BulkEdit, actor: User) -> None:
    """Makes this actor the one of all unsent edits, since the actor's permission is checked before each is sent."""
    unsent = bulk_edit.edits.filter(status__in=(EditStatus.PLANNED, EditStatus.PENDING))
    unsent.exclude(actor=actor).update(actor=actor)


def _release(bulk_edit: BulkEdit, now: dt.datetime, *, limit: int | None = None) -> None:
    planned = Edit.objects.filter(bulk_edit=bulk_edit, status=EditStatus.PLANNED)
    if limit is not None:
        last = planned.order_by("pk").values_list("pk", flat=True)[limit - 1 : limit].first()
        planned = planned if last is None else planned.filter(pk__lte=last)
    planned.transition_to(EditStatus.PENDING, next_attempt_at=now)


def cancel_unsent(bulk_edit: BulkEdit, detail: str = "The bulk edit was cancelled before this edit was sent.") -> None:
    """Cancels the unsent edits of a bulk edit."""
    waiting = Edit.objects.filter(bulk_edit=bulk_edit, status__in=(EditStatus.PLANNED, EditStatus.PENDING))
    waiting.transition_to(
        EditStatus.CANCELLED, detail=detail, finished_at=clock.now(), next_attempt_at=None, wait_reason=""
    )


def _ended(bulk_edit: BulkEdit) -> int:
    return bulk_edit.edits.filter(status__in=ENDED).count()


# --- In the background


def advance_statuses() -> None:
    """Marks bulk edits as running, completed, expired, or paused after their canary.

    Calling it twice is harmless.
    """
    _expire(BulkEdit.objects.filter(expires_at__lte=clock.now()))
    was_claimed = Q(status__in=IN_FLIGHT) | Q(finished_at__gt=OuterRef("running_since"))
    some = Edit.objects.filter(was_claimed, bulk_edit=OuterRef("pk"))
    BulkEdit.objects.filter(Exists(some), status=S.QUEUED).transition_to(S.RUNNING)
    for bulk_edit in BulkEdit.objects.filter(status__in=IN_PROGRESS):
        _conclude(bulk_edit)
    # Also cancel edits that were in flight when their bulk edit was cancelled, but were not sent after all.
    returned = Edit.objects.filter(status=EditStatus.PENDING, bulk_edit__status=S.CANCELLED)
    for bulk_edit in BulkEdit.objects.filter(pk__in=returned.values("bulk_edit")):
        cancel_unsent(bulk_edit)


def _conclude(bulk_edit: BulkEdit) -> None:
    some = Edit.objects.filter(bulk_edit=OuterRef("pk"))
    # Every statement repeats the whole condition, since edits may end and users may act between the statements.
    finished = BulkEdit.objects.filter(~Exists(some.filter(status__in=UNSETTLED)), pk=bulk_edit.pk)
    has_more = Exists(some.filter(status=EditStatus.PLANNED))
    sent = "The first edit was" if bulk_edit.canary == 1 else f"The first {bulk_edit.canary} edits were"
    message = f"{sent} sent. Check the result, then resume or cancel."
    with transaction.atomic():
        # Wait for a retry, so that the next statements see its edits.
        BulkEdit.objects.select_for_update(no_key=True).get(pk=bulk_edit.pk)
        finished.filter(has_more).transition_to(S.PAUSED, detail=message)
        finished.filter(~has_more).transition_to(S.COMPLETED, finished_at=clock.now(), detail="")


def _expire(plans: BulkEditQuerySet) -> None:
    for plan in plans.filter(status=S.PLANNED):
        with transaction.atomic():
            message = "The plan was not applied in time. Plan it again."
            if BulkEdit.objects.filter(pk=plan.pk).transition_to(S.EXPIRED, detail=message, finished_at=clock.now()):
                cancel_unsent(plan, "The plan expired.")
