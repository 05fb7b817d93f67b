"""Bulk edits from the selection to the outcomes, against the sandbox."""

import datetime as dt
import time
from collections import Counter
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from runsadmin.bulk_patch import BulkPatch
from runsadmin.errors import InvalidMetadata, InvalidSelection, InvalidTransition, NotAllowed
from runsadmin.models import BulkEdit, BulkEditStatus, Edit, EditStatus, Run, SelectionSnapshot
from runsadmin.models.bulk_edit import BulkEditQuerySet
from runsadmin.services import bulk_edits, edits, runs
from runsadmin.services.edits import active_runs
from runsadmin.services.permissions import Action
from tests.bulk import complete_plan, push_until_settled, sending_edits
from tests.conftest import VIEWER, Connect, MakeRun
from tests.sandbox_client import Sandbox
from tests.services.bulk_edit import (
    RED,
    apply,
    metadata,
    only_edit,
    plan,
    plan_for,
    planned_runs,
    statuses,
    stop_halfway,
)

pytestmark = pytest.mark.django_db(transaction=True)


def test_applied_plan_reaches_upstream(sandbox: Sandbox, twelve_runs: list[Run], alice: User) -> None:
    bulk_edit = plan(alice)
    assert (bulk_edit.status, bulk_edit.selected, statuses(bulk_edit)) == (
        BulkEditStatus.PLANNED,
        12,
        {EditStatus.PLANNED: 12},
    )
    assert sandbox.posts() == []
    sandbox.clear_log()
    bulk_edit = apply(bulk_edit, alice)
    assert (bulk_edit.status, statuses(bulk_edit)) == (BulkEditStatus.COMPLETED, {EditStatus.APPLIED: 12})
    for n, run in enumerate(twelve_runs):
        assert Run.objects.get(pk=run.pk).metadata == sandbox.metadata(run.upstream_id) == {"team": "red", "n": str(n)}
    assert len(sandbox.gets()) == 2, "The runs of a thread share one list."
    assert not SelectionSnapshot.objects.exists()


# --- Permissions and validation


def test_reason_is_required(twelve_runs: list[Run], alice: User) -> None:
    with pytest.raises(InvalidMetadata, match="reason"):
        plan(alice, reason="  ")
    with pytest.raises(InvalidMetadata, match="500"):
        plan(alice, reason="x" * 501)
    assert not BulkEdit.objects.exists()
    done = apply(plan(alice), alice)
    with pytest.raises(InvalidMetadata, match="reason"):
        bulk_edits.plan_undo(bulk_edit=done, actor=alice, source=Edit.Source.ADMIN, reason="")


def test_edits_share_reason_and_actor(twelve_runs: list[Run], alice: User) -> None:
    bulk_edit = plan(alice, reason="OPS-7", request_id="req-1")
    shared = set(bulk_edit.edits.values_list("reason", "actor", "request_id", "source"))
    assert shared == {("OPS-7", alice.pk, "req-1", Edit.Source.ADMIN)}


def test_invalid_patch_reports_every_error(twelve_runs: list[Run], alice: User) -> None:
    with pytest.raises(InvalidMetadata) as refused:
        plan(alice, patch=BulkPatch({"k" * 65: "v", "long": "v" * 513, "who": "{nobody}"}, ["long"]))
    codes = {error.code for error in refused.value.errors}
    assert codes == {"key_too_long", "value_too_long", "invalid_template", "named_twice"}
    with pytest.raises(InvalidMetadata, match="changes nothing"):
        plan(alice, patch=BulkPatch({}))
    assert not BulkEdit.objects.exists()


def test_viewer_neither_plans_nor_applies(twelve_runs: list[Run], alice: User, carol: User) -> None:
    with pytest.raises(NotAllowed, match=r"runsadmin\.add_bulkedit"):
        plan(carol)
    bulk_edit = plan(alice)
    for action in (bulk_edits.apply, bulk_edits.pause, bulk_edits.resume, bulk_edits.cancel, bulk_edits.retry):
        with pytest.raises(NotAllowed):
            action(bulk_edit=bulk_edit, actor=carol)
    assert statuses(bulk_edit) == {EditStatus.PLANNED: 12}


def test_colleague_applies_and_is_the_actor(twelve_runs: list[Run], bob: User, make_user: Callable[..., User]) -> None:
    dave = make_user(*VIEWER, Action.PLAN_BULK_EDITS, username="dave")
    bulk_edit = plan(dave)
    with pytest.raises(NotAllowed, match=r"runsadmin\.apply_bulkedit"):
        bulk_edits.apply(bulk_edit=bulk_edit, actor=dave)
    bulk_edit = apply(bulk_edit, bob)
    assert (bulk_edit.actor, bulk_edit.applied_by) == (dave, bob)
    assert statuses(bulk_edit) == {EditStatus.APPLIED: 12}
    assert set(bulk_edit.edits.values_list("actor", flat=True)) == {bob.pk}


def test_unselectable_ids_are_reported(twelve_runs: list[Run], alice: User) -> None:
    selection = bulk_edits.by_ids([twelve_runs[0].upstream_id, "run_unknown", twelve_runs[0].upstream_id])
    bulk_edit = complete_plan(
        bulk_edits.plan(selection=selection, patch=RED, actor=alice, source=Edit.Source.ADMIN, reason="moved")
    )
    assert (bulk_edit.selected, statuses(bulk_edit)) == (1, {EditStatus.PLANNED: 1})
    assert bulk_edit.not_selected == [{"id": "run_unknown", "why": "unknown"}]
    with pytest.raises(InvalidSelection, match="run_unknown"):
        bulk_edits.by_ids(["run_unknown"])


def test_selection_has_one_connection(twelve_runs: list[Run], connect: Connect) -> None:
    connect("eu")
    Run.objects.filter(pk=twelve_runs[0].pk).update(connection="eu")
    with pytest.raises(InvalidSelection, match="default, eu"):
        bulk_edits.by_search("metadata.team:blue")
    assert bulk_edits.by_search("metadata.team:blue", connection="eu").keys == [twelve_runs[0].pk]


# --- Apply


def test_apply_touches_only_planned_runs(
    sandbox: Sandbox, twelve_runs: list[Run], mirror_run: MakeRun, alice: User
) -> None:
    other = mirror_run(metadata={"team": "green"})
    bulk_edit = plan(alice)
    sandbox.set_metadata(twelve_runs[0].upstream_id, {"team": "blue", "n": "changed"})
    runs.refresh(run=twelve_runs[0], actor=alice)
    sandbox.set_metadata(twelve_runs[1].upstream_id, {"team": "violet"})  # This run no longer matches the search.
    runs.refresh(run=twelve_runs[1], actor=alice)
    sandbox.set_metadata(other.upstream_id, {"team": "blue"})  # Another run now matches the search.
    runs.refresh(run=other, actor=alice)
    new = mirror_run(thread_id="thread_0", metadata={"team": "blue"})  # A new run matches the search, too.
    sandbox.clear_log()
    bulk_edit = apply(bulk_edit, alice)
    assert statuses(bulk_edit) == {EditStatus.APPLIED: 11, EditStatus.CONFLICT: 1}
    assert set(sandbox.posted_run_ids()) == {run.upstream_id for run in twelve_runs if run != twelve_runs[1]}
    assert planned_runs(bulk_edit) == {run.pk: 1 for run in twelve_runs}
    assert sandbox.metadata(twelve_runs[0].upstream_id) == {"team": "red", "n": "changed"}
    assert metadata(sandbox, [twelve_runs[1], other, new]) == [
        {"team": "violet"},
        {"team": "blue"},
        {"team": "blue"},
    ]


def test_apply_touches_only_named_runs(sandbox: Sandbox, twelve_runs: list[Run], alice: User) -> None:
    bulk_edit = apply(plan_for(alice, *twelve_runs[:5]), alice)
    assert statuses(bulk_edit) == {EditStatus.APPLIED: 5}
    assert [pairs["team"] for pairs in metadata(sandbox, twelve_runs)] == ["red"] * 5 + ["blue"] * 7


def test_concurrently_added_key_survives(sandbox: Sandbox, twelve_runs: list[Run], alice: User) -> None:
    bulk_edit = plan(alice)
    for run in twelve_runs:
        sandbox.add_pairs(run.upstream_id, {"theirs": "1"})
    apply(bulk_edit, alice)
    assert metadata(sandbox, twelve_runs) == [{"team": "red", "n": str(n), "theirs": "1"} for n in range(12)]


def test_concurrently_changed_key_is_a_conflict(sandbox: Sandbox, twelve_runs: list[Run], alice: User) -> None:
    bulk_edit = plan(alice)
    sandbox.add_pairs(twelve_runs[3].upstream_id, {"team": "violet"})
    bulk_edit = apply(bulk_edit, alice)
    assert (bulk_edit.status, statuses(bulk_edit)) == (
        BulkEditStatus.COMPLETED,
        {EditStatus.APPLIED: 11, EditStatus.CONFLICT: 1},
    )
    (edit,) = bulk_edit.edits.filter(status=EditStatus.CONFLICT)
    assert (edit.run, "team" in edit.detail) == (twelve_runs[3], True)
    assert sandbox.metadata(twelve_runs[3].upstream_id)["team"] == "violet"


def test_edit_of_a_deleted_run_is_rejected(sandbox: Sandbox, twelve_runs: list[Run], alice: User) -> None:
    bulk_edit = plan(alice)
    sandbox.delete_run(twelve_runs[3].upstream_id)
    assert statuses(apply(bulk_edit, alice)) == {EditStatus.APPLIED: 11, EditStatus.REJECTED: 1}


def test_bulk_edit_is_queued_until_first_claim(
    slow_upstream: None, sandbox: Sandbox, twelve_runs: list[Run], alice: User
) -> None:
    bulk_edit = bulk_edits.apply(bulk_edit=plan(alice), actor=alice)
    assert bulk_edit.status == BulkEditStatus.QUEUED
    bulk_edits.advance_statuses()
    bulk_edit.refresh_from_db()
    assert bulk_edit.status == BulkEditStatus.QUEUED
    with sending_edits(sandbox):
        bulk_edits.advance_statuses()
        bulk_edit.refresh_from_db()
        assert bulk_edit.status == BulkEditStatus.RUNNING


def test_plan_is_applied_once(twelve_runs: list[Run], alice: User) -> None:
    bulk_edit = bulk_edits.apply(bulk_edit=plan(alice), actor=alice)
    with pytest.raises(InvalidTransition, match="queued"):
        bulk_edits.apply(bulk_edit=bulk_edit, actor=alice)
    assert Counter(statuses(bulk_edit)) == {EditStatus.PENDING: 12}


def test_plan_without_changes_completes_at_once(sandbox: Sandbox, twelve_runs: list[Run], alice: User) -> None:
    bulk_edit = apply(plan(alice, patch=BulkPatch({"team": "blue"})), alice)
    assert (bulk_edit.status, statuses(bulk_edit)) == (BulkEditStatus.COMPLETED, {EditStatus.SKIPPED: 12})


# --- Canary, pause, resume, cancel


def test_canary_pauses_and_resumes(sandbox: Sandbox, twelve_runs: list[Run], alice: User) -> None:
    bulk_edit = apply(plan(alice, canary=3), alice)
    assert (bulk_edit.status, statuses(bulk_edit)) == (
        BulkEditStatus.PAUSED,
        {EditStatus.APPLIED: 3, EditStatus.PLANNED: 9},
    )
    assert "first 3" in bulk_edit.detail
    assert len(sandbox.posts()) == 3
    bulk_edit = push_until_settled(bulk_edits.resume(bulk_edit=bulk_edit, actor=alice))
    assert (bulk_edit.status, statuses(bulk_edit)) == (BulkEditStatus.COMPLETED, {EditStatus.APPLIED: 12})
    assert len(sandbox.posts()) == 12


def test_canary_ending_between_checks_still_pauses(
    twelve_runs: list[Run], alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The canary's edit ends right after the check that pauses a bulk edit, and before the one that completes it."""
    bulk_edit = bulk_edits.apply(bulk_edit=plan(alice, canary=1), actor=alice)
    transition_to = BulkEditQuerySet.transition_to

    def end_edits_after_pausing(rows: BulkEditQuerySet, status: BulkEditStatus, **values: object) -> int:
        updated = transition_to(rows, status, **values)
        if status == BulkEditStatus.PAUSED:
            bulk_edit.edits.filter(status=EditStatus.PENDING).update(
                status=EditStatus.FAILED, finished_at=timezone.now()
            )
        return updated

    with monkeypatch.context() as patched:
        patched.setattr(BulkEditQuerySet, "transition_to", end_edits_after_pausing)
        bulk_edits.advance_statuses()
    bulk_edits.advance_statuses()
    bulk_edit.refresh_from_db()
    assert (bulk_edit.status, statuses(bulk_edit)) == (
        BulkEditStatus.PAUSED,
        {EditStatus.FAILED: 1, EditStatus.PLANNED: 11},
    )


def test_canary_larger_than_plan_is_ignored(twelve_runs: list[Run], alice: User) -> None:
    assert apply(plan(alice, canary=100), alice).status == BulkEditStatus.COMPLETED
    with pytest.raises(InvalidSelection, match="canary"):
        plan(alice, "metadata.team:red", canary=0)


def test_cancelled_canary_sends_no_more(sandbox: Sandbox, twelve_runs: list[Run], alice: User) -> None:
    bulk_edit = apply(plan(alice, canary=3), alice)
    bulk_edit = bulk_edits.cancel(bulk_edit=bulk_edit, actor=alice)
    assert (bulk_edit.status, statuses(bulk_edit)) == (
        BulkEditStatus.CANCELLED,
        {EditStatus.APPLIED: 3, EditStatus.CANCELLED: 9},
    )
    assert Counter(pairs["team"] for pairs in metadata(sandbox, twelve_runs)) == {"red": 3, "blue": 9}


def test_paused_bulk_edit_sends_nothing(
    slow_upstream: None, sandbox: Sandbox, twelve_runs: list[Run], alice: User
) -> None:
    bulk_edit = bulk_edits.apply(bulk_edit=plan(alice), actor=alice)
    sent = stop_halfway(sandbox, lambda: bulk_edits.pause(bulk_edit=bulk_edit, actor=alice))
    bulk_edits.advance_statuses()
    edits.process_due(until=time.monotonic() + 2)
    assert len(sandbox.posts()) == sent
    bulk_edit.refresh_from_db()
    assert (bulk_edit.status, statuses(bulk_edit)) == (
        BulkEditStatus.PAUSED,
        {EditStatus.APPLIED: sent, EditStatus.PENDING: 12 - sent},
    )
    assert "alice" in bulk_edit.detail
    bulk_edit = push_until_settled(bulk_edits.resume(bulk_edit=bulk_edit, actor=alice))
    assert (bulk_edit.status, statuses(bulk_edit)) == (BulkEditStatus.COMPLETED, {EditStatus.APPLIED: 12})
    assert len(sandbox.posts()) == 12


def test_cancelled_bulk_edit_sends_no_more(
    slow_upstream: None, sandbox: Sandbox, twelve_runs: list[Run], alice: User
) -> None:
    bulk_edit = bulk_edits.apply(bulk_edit=plan(alice), actor=alice)
    sent = stop_halfway(sandbox, lambda: bulk_edits.cancel(bulk_edit=bulk_edit, actor=alice))
    bulk_edits.advance_statuses()
    assert statuses(bulk_edit) == {EditStatus.APPLIED: sent, EditStatus.CANCELLED: 12 - sent}
    assert Counter(pairs["team"] for pairs in metadata(sandbox, twelve_runs)) == {"red": sent, "blue": 12 - sent}
    edits.process_due(until=time.monotonic() + 2)
    assert len(sandbox.posts()) == sent
    with pytest.raises(InvalidTransition, match="cancelled"):
        bulk_edits.resume(bulk_edit=bulk_edit, actor=alice)


def test_impossible_action_is_refused(twelve_runs: list[Run], alice: User) -> None:
    bulk_edit = plan(alice)
    for action in (bulk_edits.pause, bulk_edits.resume, bulk_edits.retry):
        with pytest.raises(InvalidTransition, match="this one is planned"):
            action(bulk_edit=bulk_edit, actor=alice)
    with pytest.raises(InvalidTransition, match="nothing to undo"):
        bulk_edits.plan_undo(bulk_edit=bulk_edit, actor=alice, source=Edit.Source.ADMIN, reason="a mistake")


# --- Active runs


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(active_runs, "FIRST_PAUSE", dt.timedelta(seconds=0.1))


def test_edits_wait_for_active_runs(short_pauses: None, sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> None:
    active, ended = mirror_run(status="in_progress"), mirror_run()
    bulk_edit = plan_for(alice, active, ended, wait_for_active=dt.timedelta(minutes=1))
    bulk_edit = bulk_edits.apply(bulk_edit=bulk_edit, actor=alice)
    edits.process_due(until=time.monotonic() + 5)
    bulk_edits.advance_statuses()
    assert statuses(bulk_edit) == {EditStatus.APPLIED: 1, EditStatus.PENDING: 1}
    assert bulk_edit.edits.get(status=EditStatus.PENDING).wait_reason == Edit.WaitReason.ACTIVE_RUN
    sandbox.change_run(active.upstream_id, status="completed")
    assert statuses(push_until_settled(bulk_edit)) == {EditStatus.APPLIED: 2}


def test_edits_of_active_runs_fail_at_the_deadline(
    short_pauses: None, sandbox: Sandbox, mirror_run: MakeRun, alice: User
) -> None:
    active = mirror_run(status="in_progress")
    bulk_edit = apply(plan_for(alice, active, wait_for_active=dt.timedelta(seconds=0.5)), alice)
    edit = only_edit(bulk_edit)
    assert (bulk_edit.status, edit.status) == (BulkEditStatus.COMPLETED, EditStatus.FAILED)
    assert "in_progress" in edit.detail
    assert len(sandbox.posts()) == 1, "After the first refusal, the run is only fetched."
    sandbox.change_run(active.upstream_id, status="completed")
    bulk_edit = push_until_settled(bulk_edits.retry(bulk_edit=bulk_edit, actor=alice))
    assert (bulk_edit.status, only_edit(bulk_edit).status) == (BulkEditStatus.COMPLETED, EditStatus.APPLIED)


def test_edit_of_active_run_fails_unless_awaited(sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> None:
    run = mirror_run()
    bulk_edit = plan_for(alice, run)
    sandbox.change_run(run.upstream_id, status="in_progress")
    bulk_edit = apply(bulk_edit, alice)
    assert (bulk_edit.status, only_edit(bulk_edit).status) == (BulkEditStatus.COMPLETED, EditStatus.FAILED)
