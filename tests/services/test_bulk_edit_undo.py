"""Retrying failed edits, and undoing a bulk edit."""

import datetime as dt

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from pytest_django import Settings

from runsadmin.bulk_patch import BulkPatch
from runsadmin.errors import InvalidTransition
from runsadmin.models import BulkEdit, BulkEditStatus, Edit, EditStatus, Run
from runsadmin.services import bulk_edits, edits, runs
from runsadmin.services.edits.claims import claim_due
from tests.bulk import push_until_settled
from tests.sandbox_client import Sandbox
from tests.services.bulk_edit import apply, metadata, plan, plan_undo, statuses, undo

pytestmark = pytest.mark.django_db(transaction=True)


# --- Retry


def test_only_failed_edits_are_retried(
    sandbox: Sandbox, twelve_runs: list[Run], alice: User, settings: Settings
) -> None:
    settings.RUNSADMIN_MAX_ATTEMPTS = 1
    bulk_edit = plan(alice)
    sandbox.add_pairs(twelve_runs[1].upstream_id, {"team": "violet"})
    sandbox.fault("status", status=409, method="POST", path=twelve_runs[0].upstream_id)
    bulk_edit = apply(bulk_edit, alice)
    assert (bulk_edit.status, statuses(bulk_edit)) == (
        BulkEditStatus.COMPLETED,
        {EditStatus.APPLIED: 10, EditStatus.FAILED: 1, EditStatus.CONFLICT: 1},
    )
    sandbox.clear_log()
    bulk_edit = push_until_settled(bulk_edits.retry(bulk_edit=bulk_edit, actor=alice))
    assert (bulk_edit.status, statuses(bulk_edit)) == (
        BulkEditStatus.COMPLETED,
        {EditStatus.APPLIED: 11, EditStatus.CONFLICT: 1},
    )
    assert len(sandbox.posts()) == len(sandbox.posts(twelve_runs[0].upstream_id)) == 1
    with pytest.raises(InvalidTransition, match="can be retried; none of its edits has failed"):
        bulk_edits.retry(bulk_edit=bulk_edit, actor=alice)


def test_single_failed_edit_is_retried(
    sandbox: Sandbox, twelve_runs: list[Run], alice: User, settings: Settings
) -> None:
    settings.RUNSADMIN_MAX_ATTEMPTS = 2
    bulk_edit = plan(alice)
    sandbox.fault("status", status=409, method="POST", path=twelve_runs[0].upstream_id, times=3)
    bulk_edit = apply(bulk_edit, alice)
    assert (bulk_edit.status, statuses(bulk_edit)) == (
        BulkEditStatus.COMPLETED,
        {EditStatus.APPLIED: 11, EditStatus.FAILED: 1},
    )
    edit = edits.push(edits.retry(edit=bulk_edit.edits.get(status=EditStatus.FAILED), actor=alice))
    assert edit.status == EditStatus.PENDING, "The retry was refused, so a worker must continue."
    bulk_edit.refresh_from_db()
    assert (bulk_edit.is_in_progress, bulk_edit.finished_at) == (True, None)
    assert statuses(push_until_settled(bulk_edit)) == {EditStatus.APPLIED: 12}


def test_retried_edit_waits_for_its_run_again(twelve_runs: list[Run], alice: User) -> None:
    bulk_edit = apply(plan(alice), alice)
    wait = dt.timedelta(minutes=5)
    BulkEdit.objects.update(wait_for_active=wait, active_until=timezone.now())
    Edit.objects.filter(pk=bulk_edit.edits.all()[0].pk).update(status=EditStatus.FAILED)
    edits.retry(edit=Edit.objects.get(status=EditStatus.FAILED), actor=alice)
    bulk_edit.refresh_from_db()
    assert bulk_edit.active_until is not None
    assert bulk_edit.active_until > timezone.now() + wait / 2


def test_cancelled_bulk_edit_permits_no_retry(twelve_runs: list[Run], alice: User) -> None:
    bulk_edit = bulk_edits.cancel(bulk_edit=apply(plan(alice, canary=3), alice), actor=alice)
    failed = bulk_edit.edits.filter(status=EditStatus.APPLIED)[0]
    Edit.objects.filter(pk=failed.pk).update(status=EditStatus.FAILED)
    failed.refresh_from_db()
    with pytest.raises(InvalidTransition, match="was cancelled"):
        edits.retry(edit=failed, actor=alice)
    failed.refresh_from_db()
    assert failed.status == EditStatus.FAILED


# --- Undo and redo


def test_undo_restores_all_metadata(sandbox: Sandbox, twelve_runs: list[Run], alice: User) -> None:
    done = apply(plan(alice, patch=BulkPatch({"team": "red", "new": "1"}, rename={"n": "number"})), alice)
    undoing = plan_undo(done, alice)
    assert (undoing.undoes, undoing.status, statuses(undoing)) == (
        done,
        BulkEditStatus.PLANNED,
        {EditStatus.PLANNED: 12},
    )
    for edit in undoing.edits.select_related("undoes"):
        assert edit.undoes is not None
        assert edit.base is not None
        assert edit.patch.apply(edit.base) == edit.undoes.before
    assert len(sandbox.posts()) == 12, "The plan of the undo must send nothing."
    undoing = apply(undoing, alice)
    assert (undoing.status, statuses(undoing)) == (BulkEditStatus.COMPLETED, {EditStatus.APPLIED: 12})
    assert metadata(sandbox, twelve_runs) == [{"team": "blue", "n": str(n)} for n in range(12)]
    assert bulk_edits.progress(plan_undo(done, alice)).plan_results == {Edit.PlanResult.NOTHING: 12}


def test_undo_of_the_undo_is_a_redo(sandbox: Sandbox, twelve_runs: list[Run], alice: User) -> None:
    redone = undo(undo(apply(plan(alice), alice), alice), alice)
    assert statuses(redone) == {EditStatus.APPLIED: 12}
    assert metadata(sandbox, twelve_runs) == [{"team": "red", "n": str(n)} for n in range(12)]


def test_undo_after_cancel_restores_applied_edits(sandbox: Sandbox, twelve_runs: list[Run], alice: User) -> None:
    done = bulk_edits.cancel(bulk_edit=apply(plan(alice, canary=4), alice), actor=alice)
    assert statuses(undo(done, alice)) == {EditStatus.APPLIED: 4}
    assert metadata(sandbox, twelve_runs) == [{"team": "blue", "n": str(n)} for n in range(12)]


def test_paused_bulk_edit_cannot_be_undone(sandbox: Sandbox, twelve_runs: list[Run], alice: User) -> None:
    paused = apply(plan(alice, canary=3), alice)
    with pytest.raises(InvalidTransition, match="has ended can be undone; this one is paused"):
        bulk_edits.plan_undo(bulk_edit=paused, actor=alice, source=Edit.Source.ADMIN, reason="a mistake")
    assert BulkEdit.objects.get() == paused
    assert statuses(undo(bulk_edits.cancel(bulk_edit=paused, actor=alice), alice)) == {EditStatus.APPLIED: 3}


def test_undo_waits_for_edits_in_flight(sandbox: Sandbox, twelve_runs: list[Run], alice: User) -> None:
    bulk_edit = bulk_edits.resume(bulk_edit=apply(plan(alice, canary=3), alice), actor=alice)
    assert len(claim_due("default", 2)) == 2
    bulk_edits.cancel(bulk_edit=bulk_edit, actor=alice)
    with pytest.raises(InvalidTransition, match="still in flight"):
        bulk_edits.plan_undo(bulk_edit=bulk_edit, actor=alice, source=Edit.Source.ADMIN, reason="a mistake")
    bulk_edit.edits.filter(status=EditStatus.SENDING).update(claimed_until=timezone.now())
    edits.release_expired()
    bulk_edits.advance_statuses()
    assert statuses(undo(bulk_edit, alice)) == {EditStatus.APPLIED: 3}


def test_undo_skips_pairs_changed_in_mirror(sandbox: Sandbox, twelve_runs: list[Run], alice: User) -> None:
    done = apply(plan(alice, patch=BulkPatch({"team": "red", "new": "1"})), alice)
    sandbox.add_pairs(twelve_runs[0].upstream_id, {"team": "violet", "new": "2"})
    sandbox.add_pairs(twelve_runs[1].upstream_id, {"team": "violet"})
    for run in twelve_runs[:2]:
        runs.refresh(run=run, actor=alice)
    undoing = plan_undo(done, alice)
    assert bulk_edits.progress(undoing).plan_results == {Edit.PlanResult.CHANGE: 11, Edit.PlanResult.CHANGED_SINCE: 1}
    undoing = apply(undoing, alice)
    assert statuses(undoing) == {EditStatus.APPLIED: 11, EditStatus.SKIPPED: 1}
    both_changed, one_changed = undoing.edits.get(run=twelve_runs[0]), undoing.edits.get(run=twelve_runs[1])
    assert "changed after the edit: new, team." in both_changed.detail
    assert "changed after the edit: team." in one_changed.detail
    assert sandbox.metadata(twelve_runs[0].upstream_id) == {"team": "violet", "n": "0", "new": "2"}
    assert sandbox.metadata(twelve_runs[1].upstream_id) == {"team": "violet", "n": "1"}
    assert metadata(sandbox, twelve_runs[2:]) == [{"team": "blue", "n": str(n)} for n in range(2, 12)]


def test_undo_skips_pairs_changed_upstream(sandbox: Sandbox, twelve_runs: list[Run], alice: User) -> None:
    done = apply(plan(alice, patch=BulkPatch({"team": "red", "new": "1"})), alice)
    sandbox.add_pairs(twelve_runs[0].upstream_id, {"team": "violet", "new": "2"})
    sandbox.add_pairs(twelve_runs[1].upstream_id, {"team": "violet"})
    undoing = undo(done, alice)
    assert statuses(undoing) == {EditStatus.APPLIED: 11, EditStatus.CONFLICT: 1}
    both_changed, one_changed = undoing.edits.get(run=twelve_runs[0]), undoing.edits.get(run=twelve_runs[1])
    assert (both_changed.status, "new, team" in both_changed.detail) == (EditStatus.CONFLICT, True)
    assert (one_changed.status, "changed after the edit: team." in one_changed.detail) == (EditStatus.APPLIED, True)
    assert sandbox.metadata(twelve_runs[0].upstream_id) == {"team": "violet", "n": "0", "new": "2"}
    assert sandbox.metadata(twelve_runs[1].upstream_id) == {"team": "violet", "n": "1"}
    assert metadata(sandbox, twelve_runs[2:]) == [{"team": "blue", "n": str(n)} for n in range(2, 12)]


def test_undo_skips_a_missing_run(sandbox: Sandbox, twelve_runs: list[Run], alice: User) -> None:
    done = apply(plan(alice), alice)
    Run.objects.filter(pk=twelve_runs[0].pk).update(missing_since=timezone.now())
    undoing = plan_undo(done, alice)
    assert bulk_edits.progress(undoing).plan_results == {Edit.PlanResult.CHANGE: 11, Edit.PlanResult.MISSING: 1}
