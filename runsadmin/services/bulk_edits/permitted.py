"""Which actions a bulk edit allows now, and which permissions each needs. Entry points show and check these."""

from collections.abc import Collection
from enum import StrEnum

from django.contrib.auth.models import User

from runsadmin.models import BulkEdit, BulkEditStatus, EditStatus
from runsadmin.models.bulk_edit import IN_PROGRESS
from runsadmin.models.edit import IN_FLIGHT
from runsadmin.services import clock, permissions
from runsadmin.services.bulk_edits.progress import Progress, progress
from runsadmin.services.permissions import Action

_STATUS = BulkEditStatus


class BulkEditAction(StrEnum):
    """The names of the functions in this package that act on a bulk edit for a user."""

    APPLY = "apply"
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"  # A plan that was not applied is discarded.
    RETRY = "retry"
    UNDO = "undo"


def permitted_actions(bulk_edit: BulkEdit, actor: User, *, counts: Progress | None = None) -> frozenset[BulkEditAction]:
    """What this actor may do with the bulk edit in its current state. `counts` avoids counting its edits again."""
    return frozenset(
        action
        for action in possible_actions(bulk_edit, counts=counts)
        if all(permissions.may(actor, needed) for needed in needed_permissions(bulk_edit, action))
    )


def possible_actions(bulk_edit: BulkEdit, *, counts: Progress | None = None) -> frozenset[BulkEditAction]:
    """What the state of the bulk edit allows now, regardless of the actor."""
    possible: set[BulkEditAction] = set()
    match bulk_edit.status:
        case _STATUS.PLANNING:
            possible.add(BulkEditAction.CANCEL)
        case _STATUS.PLANNED:
            possible.add(BulkEditAction.CANCEL)
            if not is_expired(bulk_edit) and (counts or progress(bulk_edit)).total:
                possible.add(BulkEditAction.APPLY)
        case status if status in IN_PROGRESS:
            possible |= {BulkEditAction.PAUSE, BulkEditAction.CANCEL}
        case _STATUS.PAUSED:
            possible |= {BulkEditAction.RESUME, BulkEditAction.CANCEL}
        case _:
            counts = counts or progress(bulk_edit)
            if bulk_edit.status == _STATUS.COMPLETED and counts.count(EditStatus.FAILED):
                possible.add(BulkEditAction.RETRY)
            if counts.count(EditStatus.APPLIED, EditStatus.DIFFERS) and not counts.count(*IN_FLIGHT):
                possible.add(BulkEditAction.UNDO)
    return frozenset(possible)


def needed_permissions(bulk_edit: BulkEdit, action: BulkEditAction) -> Collection[Action]:
    """The permissions that an action needs; an actor must have all of them."""
    match action:
        case BulkEditAction.APPLY:
            return (Action.APPLY_BULK_EDITS, Action.EDIT_METADATA)
        case BulkEditAction.UNDO:
            return (Action.PLAN_BULK_EDITS,)
        case BulkEditAction.CANCEL if bulk_edit.status in (_STATUS.PLANNING, _STATUS.PLANNED):
            return (Action.PLAN_BULK_EDITS,)
        case _:
            return (Action.APPLY_BULK_EDITS,)


def require(actor: User, bulk_edit: BulkEdit, action: BulkEditAction) -> None:
    """Raises NotAllowed."""
    for needed in needed_permissions(bulk_edit, action):
        permissions.require(actor, needed)


def is_expired(bulk_edit: BulkEdit) -> bool:
    """Whether this is a plan that can no longer be applied. A worker marks it as expired soon after."""
    is_plan = bulk_edit.status == _STATUS.PLANNED
    return is_plan and bulk_edit.expires_at is not None and bulk_edit.expires_at <= clock.now()
