"""Edits that come from a backup: they wait until a user has released or cancelled them."""

from django.contrib.auth.models import User
from django.db import transaction

from runsadmin.errors import InvalidTransition
from runsadmin.models import Edit
from runsadmin.models.edit import UNSETTLED, EditQuerySet
from runsadmin.services import clock, connections, permissions
from runsadmin.services.edits.claims import reload

# Every page shows how many there are, until their connection is released.
MAX_AWAITING_RELEASE = 10_000


def release(*, edit: Edit, actor: User) -> Edit:
    """Lets an edit be sent, once its connection is released as well. Raises NotAllowed or InvalidTransition."""
    permissions.require(actor, permissions.Action.EDIT_METADATA)
    released = _release(Edit.objects.filter(pk=edit.pk), actor)
    edit = reload(edit)
    if not released:
        state = edit.get_status_display().lower()
        raise InvalidTransition(f"Only an edit that has waited since a restore can be released; this one is {state}.")
    return edit


def release_all(*, connection: str, actor: User) -> int:
    """Releases a connection and all of its single edits. Bulk edits are resumed one by one.

    Returns how many edits were released. Raises NotAllowed, UnknownConnection or ReadOnlyConnection.
    """
    permissions.require(actor, permissions.Action.EDIT_METADATA)
    with transaction.atomic():
        connections.release_restored(connection, actor=actor)
        return _release(Edit.objects.filter(run__connection=connection), actor)


def that_await_release() -> EditQuerySet:
    """The edits that a user has to release or cancel, oldest first."""
    waiting = Edit.objects.filter(restored_from__isnull=False, status__in=UNSETTLED).order_by("pk")
    return waiting.select_related("run", "actor").defer("run__raw")


def count_awaiting_release(connection: str) -> int:
    """How many edits of a connection a user has to release or cancel. Counting stops after MAX_AWAITING_RELEASE."""
    waiting = that_await_release().filter(run__connection=connection).order_by()
    return waiting[: MAX_AWAITING_RELEASE + 1].count()


def _release(edits: EditQuerySet, actor: User) -> int:
    detail = f"{actor.get_username()} released it after a restore."
    waiting = edits.filter(restored_from__isnull=False, status__in=UNSETTLED)
    return waiting.update(restored_from=None, next_attempt_at=clock.now(), detail=detail)
