"""What users do with a recorded edit: retry it, cancel it, undo it, or resolve its conflict."""

from enum import StrEnum

from django.contrib.auth.models import User
from django.db import transaction

from runsadmin import conf
from runsadmin.errors import InvalidTransition
from runsadmin.metadata import Conflict, Metadata, MetadataPatch, merge3
from runsadmin.models import BulkEdit, BulkEditStatus, Edit, EditSource, EditStatus
from runsadmin.models.edit import ENDED, EditQuerySet
from runsadmin.services import clock, permissions
from runsadmin.services.edits.claims import reload
from runsadmin.services.edits.recording import NewEdit, lock_runs, record
from runsadmin.services.edits.undo import undo_patch


class EditAction(StrEnum):
    """The names of the functions in this package that act on an edit for a user."""

    RETRY = "retry"
    CANCEL = "cancel"
    UNDO = "undo"
    RESOLVE = "resolve"
    RELEASE = "release"


def permitted_actions(edit: Edit, actor: User) -> frozenset[EditAction]:
    """What this actor may do with the edit in its current state."""
    if not permissions.may(actor, permissions.Action.EDIT_METADATA):
        return frozenset()
    if edit.run.connection not in conf.upstreams():
        return frozenset({EditAction.CANCEL} if edit.status in (EditStatus.PLANNED, EditStatus.PENDING) else ())
    match edit.status:
        case EditStatus.PENDING if edit.awaits_release:
            return frozenset({EditAction.RELEASE, EditAction.CANCEL})
        case EditStatus.UNKNOWN if edit.awaits_release:
            return frozenset({EditAction.RELEASE})
        case EditStatus.FAILED:
            is_final = edit.bulk_edit is not None and edit.bulk_edit.status == BulkEditStatus.CANCELLED
            return frozenset() if is_final else frozenset({EditAction.RETRY})
        case EditStatus.PLANNED | EditStatus.PENDING:
            return frozenset({EditAction.CANCEL})
        case EditStatus.CONFLICT if edit.patch:  # An edit without a patch was purged.
            return frozenset({EditAction.RESOLVE})
        case _:
            return frozenset({EditAction.UNDO}) if edit.may_be_undone else frozenset()


def retry(*, edit: Edit, actor: User) -> Edit:
    """Makes a failed edit due again. Raises NotAllowed, InvalidTransition, UnknownConnection or ReadOnlyConnection."""
    permissions.require(actor, permissions.Action.EDIT_METADATA)
    conf.upstream(edit.run.connection)
    with transaction.atomic():
        locked = BulkEdit.objects.select_for_update(no_key=True)
        bulk_edit = edit.bulk_edit and locked.get(pk=edit.bulk_edit.pk)
        if bulk_edit and bulk_edit.status == BulkEditStatus.CANCELLED:
            message = "The bulk edit of this edit was cancelled. Plan a new one for the remaining changes."
            raise InvalidTransition(message)
        moved = try_again(Edit.objects.filter(pk=edit.pk), bulk_edit=bulk_edit, by=actor)
    edit = reload(edit)
    if not moved:
        raise InvalidTransition(f"Only a failed edit can be retried; this one is {edit.get_status_display().lower()}.")
    return edit


def try_again(failed: EditQuerySet, *, bulk_edit: BulkEdit | None, by: User) -> int:
    """Makes the failed ones among these edits due again, as edits of this actor. Returns how many there were.

    All of the edits belong to `bulk_edit`, or to no bulk edit if it is None. Lock it first: if it were completed before
    the transaction ends, its edits would never be sent.
    """
    now = clock.now()
    with transaction.atomic():
        moved = failed.filter(status=EditStatus.FAILED).transition_to(
            EditStatus.PENDING,
            detail=f"{by.get_username()} retried it.",
            attempts=0,
            deaths=None,
            next_attempt_at=now,
            finished_at=None,
            before=None,
            intended=None,
            sent_at=None,
            waiting_since=None,
            restored_from=None,
            actor=by,
        )
        if moved and bulk_edit:  # The bulk edit is completed again when the retried edits have ended.
            waits = bulk_edit.wait_for_active
            BulkEdit.objects.filter(pk=bulk_edit.pk, status=BulkEditStatus.COMPLETED).transition_to(
                BulkEditStatus.QUEUED,
                detail="",
                finished_at=None,
                running_since=now,
                ended_before=bulk_edit.edits.filter(status__in=ENDED).count(),
                active_until=None if waits is None else now + waits,
            )
    return moved


def cancel(*, edit: Edit, actor: User) -> Edit:
    """Cancels an edit that has not been sent yet. Raises NotAllowed or InvalidTransition."""
    permissions.require(actor, permissions.Action.EDIT_METADATA)
    Edit.objects.move(
        edit,
        EditStatus.CANCELLED,
        "Only an edit that has not been sent yet can be cancelled",
        detail=f"{actor.get_username()} cancelled it before it was sent.",
        finished_at=clock.now(),
        next_attempt_at=None,
        wait_reason="",
    )
    return reload(edit)


def undo(*, edit: Edit, actor: User, source: EditSource, reason: str = "", request_id: str = "") -> Edit:
    """Records an edit that reverts, key by key, what this edit changed.

    A key that has been changed since is left as it is and reported. If no key remains, the new edit is skipped.
    Raises InvalidTransition, and whatever `record` raises.
    """
    permissions.require(actor, permissions.Action.EDIT_METADATA)
    conf.upstream(edit.run.connection)
    with transaction.atomic():
        edit = _locked(edit)
        if not edit.may_be_undone or edit.before is None or edit.after is None:
            raise InvalidTransition(
                f"Only an edit that was applied can be undone; this one is {edit.get_status_display().lower()}."
            )
        undo = undo_patch(edit)
        values = NewEdit(
            run=edit.run, patch=undo.recorded, actor=actor, source=source, base=edit.after,
            reason=reason, request_id=request_id, undoes=edit, detail=undo.detail,
        )  # fmt: skip
        if undo.patch:
            return reload(record(**values))
        values["detail"] = undo.detail or "There is nothing to undo."
        return Edit.objects.create(**values, status=EditStatus.SKIPPED, finished_at=clock.now())


def _locked(edit: Edit) -> Edit:
    """The edit as it is now. Its values are not purged before the end of the transaction."""
    lock_runs([edit.run_id])
    edit = reload(edit)
    if edit.has_ended and edit.is_purged:
        raise InvalidTransition(f"{edit.detail} Make a new edit.".strip())
    return edit


def conflicts(edit: Edit) -> tuple[Conflict, ...]:
    """The conflicts of an edit, one for each key. Empty if the edit is not in conflict."""
    if edit.status != EditStatus.CONFLICT:
        return ()
    base, theirs = _conflicting(edit)
    return merge3(edit.patch, base=base, theirs=theirs).conflicts


def _conflicting(edit: Edit) -> tuple[Metadata, Metadata]:
    """The two maps of a conflict: our base, and theirs."""
    if edit.after is not None:  # Found by reconciling: the base is what the fetch before the write returned.
        return edit.before or Metadata(), edit.after
    return edit.base or Metadata(), edit.before or Metadata()


def resolve(
    *, edit: Edit, patch: MetadataPatch, actor: User, source: EditSource, reason: str = "", request_id: str = ""
) -> Edit:
    """Records a new edit in place of one in conflict, with upstream's metadata as its base.

    Raises InvalidTransition, and whatever `record` raises.
    """
    permissions.require(actor, permissions.Action.EDIT_METADATA)
    with transaction.atomic():
        edit = _locked(edit)
        if edit.status != EditStatus.CONFLICT:
            status = edit.get_status_display().lower()
            raise InvalidTransition(f"Only a conflict can be resolved; this edit is {status}.")
        _, theirs = _conflicting(edit)
        return record(
            run=edit.run, patch=patch, actor=actor, source=source, base=theirs,
            reason=reason or edit.reason, request_id=request_id, resolves=edit,
        )  # fmt: skip
