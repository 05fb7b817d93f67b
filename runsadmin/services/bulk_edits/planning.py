"""Planning: makes an edit for every selected run, with its changes or the reason why the run is skipped.

Plans are made in the background, in blocks. Progress is committed with each block, so that after a crash, planning
continues with the next block and no run is planned twice.
"""

import datetime as dt
import logging
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from threading import Event

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F

from runsadmin import conf
from runsadmin.bulk_patch import BulkPatch, Skipped, TemplateFields
from runsadmin.db_errors import is_database_failure
from runsadmin.errors import (
    InvalidId,
    InvalidMetadata,
    InvalidSelection,
    InvalidTransition,
    MetadataError,
    NotAllowed,
    ReadOnlyConnection,
    UnknownConnection,
)
from runsadmin.ids import check_id
from runsadmin.metadata import MetadataPatch, check_is_readable
from runsadmin.models import BulkEdit, BulkEditStatus, Edit, EditSource, EditStatus, Run, SelectionSnapshot
from runsadmin.models.bulk_edit import BulkEditQuerySet, pack_keys, unpack_keys
from runsadmin.models.edit import IN_FLIGHT
from runsadmin.services import clock, edits, permissions
from runsadmin.services.bulk_edits import actions
from runsadmin.services.bulk_edits.selecting import Selection
from runsadmin.services.edits.active_runs import HOW_TO_WAIT
from runsadmin.services.edits.recording import check_not_retired, check_reason

logger = logging.getLogger(__name__)

BLOCK = 500
MAX_RUNS = 2**31 - 1  # The largest value that the column can hold.
LONGEST_WAIT = dt.timedelta(days=30)  # The longest that an edit may wait for an active run.
CLAIM = dt.timedelta(seconds=10)
# How many processes may die while they plan a block.
MAX_ATTEMPTS = 3

PlanResult = Edit.PlanResult


def check_may_apply(actor: User) -> None:
    """Checks the permissions of an actor who plans and applies in one step. Raises NotAllowed."""
    permissions.require(actor, permissions.Action.APPLY_BULK_EDITS)
    permissions.require(actor, permissions.Action.EDIT_METADATA)


def plan(
    *,
    selection: Selection,
    patch: BulkPatch,
    actor: User,
    source: EditSource,
    reason: str,
    wait_for_active: dt.timedelta | None = None,
    canary: int | None = None,
    apply_when_planned: bool = False,
    request_id: str = "",
) -> BulkEdit:
    """Records a bulk edit. `continue_planning` then makes its plan; nothing is sent before the plan is applied.

    With `apply_when_planned`, the process that completes the plan also applies it, with the permissions that the actor
    has then. If this raises NotAllowed, InvalidMetadata, InvalidSelection or InvalidTransition, nothing is recorded.
    """
    permissions.require(actor, permissions.Action.PLAN_BULK_EDITS)
    permissions.require(actor, permissions.Action.VIEW_RUNS)
    if apply_when_planned:
        check_may_apply(actor)
    patch.check()
    _check_reason(reason)
    if canary is not None and not 1 <= canary <= MAX_RUNS:
        raise InvalidSelection(f"A canary must have 1 to {MAX_RUNS:,} runs.")
    bulk_edit = BulkEdit(
        connection=selection.connection,
        query=selection.query,
        tz=str(selection.tz),
        not_selected=[{"id": id, "why": why} for id, why in selection.not_selected],
        set=dict(patch.set),
        remove=list(patch.remove),
        rename=dict(patch.rename),
        actor=actor,
        source=source,
        reason=reason,
        wait_for_active=wait_for_active,
        canary=canary,
        apply_when_planned=apply_when_planned,
        request_id=request_id,
    )
    return _record(bulk_edit, selection.keys)


def plan_undo(*, bulk_edit: BulkEdit, actor: User, source: EditSource, reason: str, request_id: str = "") -> BulkEdit:
    """Records a bulk edit that undoes another one, with its own plan.

    That bulk edit must have ended and must have no edit in flight, since its later changes would not be undone.
    Raises NotAllowed, InvalidMetadata, InvalidTransition, UnknownConnection or ReadOnlyConnection.
    """
    permissions.require(actor, permissions.Action.PLAN_BULK_EDITS)
    _check_reason(reason)
    bulk_edit = BulkEdit.objects.get(pk=bulk_edit.pk)
    done = bulk_edit.edits.filter(status__in=(EditStatus.APPLIED, EditStatus.DIFFERS)).order_by("pk")
    keys = list(done.values_list("pk", flat=True))
    state = bulk_edit.get_status_display().lower()
    if not keys:
        raise InvalidTransition(f"There is nothing to undo: the bulk edit is {state} and has not changed any run.")
    if not bulk_edit.has_ended:
        raise InvalidTransition(f"Only a bulk edit that has ended can be undone; this one is {state}.")
    if bulk_edit.edits.filter(status__in=IN_FLIGHT).exists():
        raise InvalidTransition("Some edits of this bulk edit are still in flight. Undo it when they have ended.")
    undo = BulkEdit(
        connection=bulk_edit.connection,
        undoes=bulk_edit,
        actor=actor,
        source=source,
        reason=reason,
        wait_for_active=bulk_edit.wait_for_active,
        request_id=request_id,
    )
    return _record(undo, keys)


def _record(bulk_edit: BulkEdit, keys: Sequence[int]) -> BulkEdit:
    check_not_retired(conf.upstream(bulk_edit.connection).alias)
    bulk_edit.selected = len(keys)
    with transaction.atomic():
        bulk_edit.save()
        SelectionSnapshot.objects.create(bulk_edit=bulk_edit, packed=pack_keys(keys))
    return bulk_edit


def _check_reason(reason: str) -> None:
    if not reason.strip():
        raise InvalidMetadata([MetadataError(None, "reason_required", "A bulk edit needs a reason.")])
    check_reason(reason)


# --- In the background


def waiting_plans() -> list[int]:
    """The primary keys of the bulk edits whose plans are incomplete and not being worked on."""
    waiting = BulkEdit.objects.free(clock.now()).filter(status=BulkEditStatus.PLANNING)
    return list(waiting.order_by("pk").values_list("pk", flat=True))


def continue_planning(bulk_edit: BulkEdit, *, until: float, stopping: Event | None = None) -> BulkEdit:
    """Makes the plan, block by block, until it is complete or `time.monotonic()` reaches `until`.

    Does nothing while another process works on the plan.
    """
    token, now = uuid.uuid4(), clock.now()
    free = BulkEdit.objects.free(now).filter(pk=bulk_edit.pk, status=BulkEditStatus.PLANNING)
    if free.update(claim_token=token, claimed_until=now + CLAIM, attempts=F("attempts") + 1):
        claimed = BulkEdit.objects.filter(pk=bulk_edit.pk, claim_token=token, status=BulkEditStatus.PLANNING)
        try:
            keys = unpack_keys(SelectionSnapshot.objects.get(bulk_edit=bulk_edit).packed)
            while _plan_block(claimed, keys) and time.monotonic() < until and not (stopping and stopping.is_set()):
                pass
        except Exception as error:
            if is_database_failure(error):
                raise  # The next call continues after the last block.
            logger.exception("Planning %s failed with an internal error.", bulk_edit)
            _fail(claimed, f"Planning failed with an internal error ({type(error).__name__}); see the log.")
        finally:
            BulkEdit.objects.filter(pk=bulk_edit.pk, claim_token=token).update(
                claim_token=None, claimed_until=None, attempts=0
            )
    return BulkEdit.objects.get(pk=bulk_edit.pk)


def _fail(claimed: BulkEditQuerySet, why: str) -> None:
    with transaction.atomic():
        bulk_edit = claimed.first()
        detail = f"{why} Nothing was changed."
        if claimed.transition_to(BulkEditStatus.FAILED, detail=detail, finished_at=clock.now()) and bulk_edit:
            actions.cancel_unsent(bulk_edit, why)


def _plan_block(claimed: BulkEditQuerySet, selection: Sequence[int]) -> bool:
    """Plans the next block. Returns whether any runs are left to plan."""
    bulk_edit = claimed.select_related("actor").first()
    if bulk_edit is None:  # Cancelled in the meantime, or claimed by another process.
        return False
    if bulk_edit.attempts > MAX_ATTEMPTS:
        _fail(claimed, f"{MAX_ATTEMPTS} processes died while they made this plan. See their logs.")
        return False
    keys = selection[bulk_edit.planned : bulk_edit.planned + BLOCK]
    planned = bulk_edit.planned + len(keys)
    rows = list((_undoing if bulk_edit.undoes_id else _changing)(bulk_edit, keys))
    now = clock.now()
    for row in rows:
        if row.status == EditStatus.PLANNED and row.run.is_locked and bulk_edit.wait_for_active is None:
            reason = f"The run was {row.run.status} when this was planned. To wait for it to end, {HOW_TO_WAIT}."
            _skip(row, PlanResult.ACTIVE, reason)
        row.bulk_edit = bulk_edit
        row.actor, row.source = bulk_edit.actor, bulk_edit.source
        row.reason = bulk_edit.reason
        row.request_id = bulk_edit.request_id
        row.finished_at = now if row.has_ended else None
    with transaction.atomic(durable=True):
        unpurged = edits.lock_runs([row.run.pk for row in rows])
        rows = [row for row in rows if row.run.is_purged or row.run.pk in unpurged]
        progress = {"planned": planned, "claimed_until": now + CLAIM, "attempts": 1}
        if not claimed.filter(planned=bulk_edit.planned).update(**progress):
            return False
        _create(rows)
        if planned < bulk_edit.selected:
            return True
        claimed.transition_to(BulkEditStatus.PLANNED, planned_at=now, expires_at=now + conf.plan_lifetime())
        SelectionSnapshot.objects.filter(bulk_edit=bulk_edit).delete()
        if bulk_edit.apply_when_planned:
            _apply(bulk_edit)
    return False


def _create(rows: Sequence[Edit]) -> None:
    """Creates the edits of a block. If the database refuses one, the plan says so instead."""
    try:
        with transaction.atomic():
            Edit.objects.bulk_create(rows)
    except Exception as error:
        if is_database_failure(error):
            raise
        logger.exception("A block of a plan could not be stored at once.")
        for row in rows:
            _create_alone(row)


def _create_alone(row: Edit) -> None:
    try:
        with transaction.atomic():
            row.save(force_insert=True)
    except Exception as error:
        if is_database_failure(error):
            raise
        row.base, row.patch, row.finished_at = None, MetadataPatch(), clock.now()
        _skip(row, PlanResult.ERROR, f"The edit could not be stored: {type(error).__name__}; see the log.")
        row.save(force_insert=True)


def _planned(run: Run, bulk_edit: BulkEdit, plan: Callable[[], Edit]) -> Edit:
    """The edit that `plan` makes for a run. After an internal error, an edit that is skipped with the reason."""
    try:
        return plan()
    except Exception as error:
        if is_database_failure(error):
            raise
        if not bulk_edit.edits.filter(plan_result=PlanResult.ERROR).exists():  # Others are likely to fail as well.
            logger.exception("Planning the run %s failed with an internal error.", run)
        skipped = Edit(run=run, patch=MetadataPatch())
        return _skip(skipped, PlanResult.ERROR, f"Planning it failed with an internal error ({type(error).__name__}).")


def _apply(bulk_edit: BulkEdit) -> None:
    """Applies the plan, as its actor requested. If that fails, the plan stays as it is, and its detail says why."""
    try:
        actions.apply(bulk_edit=bulk_edit, actor=bulk_edit.actor)
    except (NotAllowed, InvalidTransition, UnknownConnection, ReadOnlyConnection) as error:
        BulkEdit.objects.filter(pk=bulk_edit.pk).update(detail=f"The plan was not applied: {error}")


def _changing(bulk_edit: BulkEdit, keys: Sequence[int]) -> Iterator[Edit]:
    patch = BulkPatch(bulk_edit.set, bulk_edit.remove, bulk_edit.rename)
    runs = Run.objects.select_related("thread").in_bulk(keys)
    for key in keys:
        if run := runs.get(key):  # The run may have been purged in the meantime.
            yield _planned(run, bulk_edit, partial(_change, run, patch))


def _change(run: Run, patch: BulkPatch) -> Edit:
    edit = Edit(
        run=run, base=run.metadata, patch=MetadataPatch(), status=EditStatus.PLANNED, plan_result=PlanResult.CHANGE
    )
    if why_not := _cannot_be_sent(run):
        return _skip(edit, *why_not)
    try:
        edit.patch = patch.resolve(template_fields(run), run.metadata)
        if not edit.patch:
            return _skip(edit, PlanResult.NOTHING, patch.why_unchanged())
        edit.patch.check(run.metadata)
    except Skipped as error:
        return _skip(edit, PlanResult(error.why), str(error))
    except InvalidMetadata as invalid:
        too_many = any(error.code == "too_many_pairs" for error in invalid.errors)
        return _skip(edit, PlanResult.TOO_MANY_PAIRS if too_many else PlanResult.TOO_LONG, str(invalid))
    return edit


def _undoing(bulk_edit: BulkEdit, keys: Sequence[int]) -> Iterator[Edit]:
    done = Edit.objects.select_related("run__thread").in_bulk(keys)
    for key in keys:
        undone = done[key]
        yield _planned(undone.run, bulk_edit, partial(_undo, undone))


def _undo(undone: Edit) -> Edit:
    undo = edits.undo_patch(undone)
    edit = Edit(
        run=undone.run, undoes=undone, base=undone.after, patch=undo.recorded,
        status=EditStatus.PLANNED, plan_result=PlanResult.CHANGE, detail=undo.detail,
    )  # fmt: skip
    if why_not := _cannot_be_sent(undone.run):
        return _skip(edit, *why_not)
    if not undo.patch:
        plan_result = PlanResult.CHANGED_SINCE if undo.skipped else PlanResult.NOTHING
        return _skip(edit, plan_result, undo.detail or "There is nothing to undo.")
    return edit


def _cannot_be_sent(run: Run) -> tuple[Edit.PlanResult, str] | None:
    if run.missing_since is not None:
        return PlanResult.MISSING, "Upstream no longer has this run."
    if run.is_purged:
        return PlanResult.METADATA_UNKNOWN, "The run was purged. If upstream still has it, refresh it first."
    try:
        check_id(run.upstream_id)
        check_id(run.thread.upstream_id)
        check_is_readable(run.metadata_state, run.metadata)
    except InvalidId as error:
        return PlanResult.INVALID_ID, str(error)
    except InvalidMetadata as error:
        return PlanResult.METADATA_UNKNOWN, str(error)
    return None


def _skip(edit: Edit, plan_result: Edit.PlanResult, detail: str) -> Edit:
    edit.status, edit.plan_result, edit.detail = EditStatus.SKIPPED, plan_result, detail
    return edit


def template_fields(run: Run) -> TemplateFields:
    return TemplateFields(
        id=run.upstream_id,
        thread=run.thread.upstream_id,
        assistant=run.assistant_id,
        model=run.model,
        status=run.status,
        connection=run.connection,
        error=run.error_code,
        created=run.time("created_at"),
        started=run.started_at,
        completed=run.completed_at,
        failed=run.failed_at,
        cancelled=run.cancelled_at,
        expires=run.expires_at,
    )
