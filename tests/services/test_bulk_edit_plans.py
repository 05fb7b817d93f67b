"""Plans: their results, templates, expiry, and planning in blocks."""

import datetime as dt
import time

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError
from django.utils import timezone
from pytest_django import Settings

from runsadmin.bulk_patch import BulkPatch
from runsadmin.errors import InvalidTransition
from runsadmin.metadata import MetadataPatch
from runsadmin.models import BulkEdit, BulkEditStatus, Edit, EditStatus, Run, Thread
from runsadmin.services import bulk_edits, edits, runs
from runsadmin.services.bulk_edits import planning
from runsadmin.services.bulk_edits.progress import changed_since
from tests.bulk import complete_plan
from tests.conftest import Connect, MakeRun
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
)

pytestmark = pytest.mark.django_db(transaction=True)


# --- Plan results


def test_change_is_shown_before_and_after(sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> None:
    run = mirror_run(metadata={"team": "blue", "old": "1", "gone": "x", "n": "1"})
    edit = only_edit(plan_for(alice, run, patch=BulkPatch({"team": "red"}, ["gone", "never"], {"old": "new"})))
    assert (edit.plan_result, edit.status, edit.base) == (Edit.PlanResult.CHANGE, EditStatus.PLANNED, run.metadata)
    assert edit.base is not None
    assert edit.patch.apply(edit.base) == {"team": "red", "new": "1", "n": "1"}
    assert sandbox.posts() == []


def assert_skipped(bulk_edit: BulkEdit, plan_result: Edit.PlanResult, detail: str) -> None:
    """Asserts that the only edit of the bulk edit is skipped and has ended."""
    edit = only_edit(bulk_edit)
    assert (edit.plan_result, edit.status) == (plan_result, EditStatus.SKIPPED)
    assert detail in edit.detail
    assert edit.finished_at is not None
    assert bulk_edits.progress(bulk_edit).plan_results == {plan_result: 1}


def test_run_without_changes_is_skipped(mirror_run: MakeRun, alice: User) -> None:
    run = mirror_run(metadata={"team": "red"})
    assert_skipped(
        plan_for(alice, run, patch=BulkPatch({"team": "red"}, ["gone"])),
        Edit.PlanResult.NOTHING,
        "already has the values to set ('team'), and does not have the keys to remove ('gone')",
    )


def test_run_with_too_many_pairs_is_skipped(mirror_run: MakeRun, alice: User) -> None:
    run = mirror_run(metadata={f"k{n}": "v" for n in range(16)})
    assert_skipped(plan_for(alice, run), Edit.PlanResult.TOO_MANY_PAIRS, "17 pairs")


def test_run_with_overlong_value_is_skipped(mirror_run: MakeRun, alice: User) -> None:
    run = mirror_run(model="m" * 100)
    assert_skipped(
        plan_for(alice, run, patch=BulkPatch({"x": "{model}" * 6})), Edit.PlanResult.TOO_LONG, "600 characters"
    )


def test_rename_to_existing_key_is_skipped(mirror_run: MakeRun, alice: User) -> None:
    rename = BulkPatch({}, rename={"old": "new"})
    assert_skipped(
        plan_for(alice, mirror_run(metadata={"old": "1", "new": "2"}), patch=rename),
        Edit.PlanResult.NAME_TAKEN,
        "'new'",
    )
    edit = only_edit(plan_for(alice, mirror_run(metadata={"old": "1", "new": "1"}), patch=rename))
    assert (edit.plan_result, edit.patch) == (Edit.PlanResult.CHANGE, MetadataPatch({}, frozenset({"old"})))


def test_run_without_field_value_is_skipped(mirror_run: MakeRun, alice: User) -> None:
    bulk_edit = plan_for(alice, mirror_run(), patch=BulkPatch({"why": "{error}"}))
    assert_skipped(bulk_edit, Edit.PlanResult.NO_VALUE, "no error")


def test_active_run_is_skipped_unless_awaited(mirror_run: MakeRun, alice: User) -> None:
    run = mirror_run(status="in_progress")
    assert_skipped(plan_for(alice, run), Edit.PlanResult.ACTIVE, "in_progress")
    assert only_edit(plan_for(alice, run, wait_for_active=dt.timedelta(hours=1))).plan_result == Edit.PlanResult.CHANGE


def test_missing_run_is_skipped(mirror_run: MakeRun, alice: User) -> None:
    run = mirror_run()
    Run.objects.update(missing_since=timezone.now())
    assert_skipped(plan_for(alice, run), Edit.PlanResult.MISSING, "no longer")


def test_empty_value_differs_from_removal(sandbox: Sandbox, twelve_runs: list[Run], alice: User) -> None:
    apply(plan(alice, patch=BulkPatch({"team": ""}, ["n"])), alice)
    assert metadata(sandbox, twelve_runs) == [{"team": ""}] * 12


# --- Templates


def test_templates_are_filled_per_run(sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> None:
    january, may = (int(dt.datetime(2026, month, 5, tzinfo=dt.UTC).timestamp()) for month in (1, 5))
    first = mirror_run(model="gpt-4o", created_at=january)
    second = mirror_run(model="o3", created_at=may, status="failed", last_error={"code": "server_error", "message": ""})
    patch = BulkPatch({"batch": "{model}-{created:%Y-%m}", "was": "{status} {{}}"})
    apply(plan_for(alice, first, second, patch=patch), alice)
    assert metadata(sandbox, [first, second]) == [
        {"batch": "gpt-4o-2026-01", "was": "completed {}"},
        {"batch": "o3-2026-05", "was": "failed {}"},
    ]


# --- Plans expire


def test_expired_plan_cannot_be_applied(sandbox: Sandbox, twelve_runs: list[Run], alice: User) -> None:
    bulk_edit = plan(alice)
    assert bulk_edit.expires_at is not None
    BulkEdit.objects.update(expires_at=timezone.now())
    with pytest.raises(InvalidTransition, match="expired"):
        bulk_edits.apply(bulk_edit=bulk_edit, actor=alice)
    edits.process_due(until=time.monotonic() + 5)
    assert sandbox.posts() == []
    assert statuses(bulk_edit) == {EditStatus.CANCELLED: 12}


def test_expired_plan_cancels_its_edits(twelve_runs: list[Run], alice: User) -> None:
    bulk_edit = plan(alice)
    bulk_edits.advance_statuses()
    assert statuses(bulk_edit) == {EditStatus.PLANNED: 12}
    BulkEdit.objects.update(expires_at=timezone.now())
    bulk_edits.advance_statuses()
    bulk_edit.refresh_from_db()
    assert (bulk_edit.status, statuses(bulk_edit)) == (BulkEditStatus.EXPIRED, {EditStatus.CANCELLED: 12})
    assert "expired" in bulk_edit.edits.all()[0].detail


def test_plan_counts_runs_changed_later(sandbox: Sandbox, twelve_runs: list[Run], alice: User) -> None:
    bulk_edit = plan(alice)
    assert changed_since(bulk_edit) == 0
    for run in twelve_runs[:3]:
        sandbox.set_metadata(run.upstream_id, {"team": "green"})
        runs.refresh(run=run, actor=alice)
    assert changed_since(bulk_edit) == 3


# --- Planning in blocks


@pytest.fixture
def blocks_of_five(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "BLOCK", 5)


def plan_one_block(actor: User) -> BulkEdit:
    """A plan of which only the first block is complete."""
    selection = bulk_edits.by_search("metadata.team:blue")
    bulk_edit = bulk_edits.plan(selection=selection, patch=RED, actor=actor, source=Edit.Source.ADMIN, reason="moved")
    return bulk_edits.continue_planning(bulk_edit, until=0)


def test_interrupted_planning_resumes(blocks_of_five: None, twelve_runs: list[Run], alice: User) -> None:
    bulk_edit = plan_one_block(alice)
    assert (bulk_edit.status, bulk_edit.planned, bulk_edit.edits.count()) == (BulkEditStatus.PLANNING, 5, 5)
    assert bulk_edits.waiting_plans() == [bulk_edit.pk]
    bulk_edit = complete_plan(bulk_edit)
    assert (bulk_edit.status, bulk_edit.planned) == (BulkEditStatus.PLANNED, 12)
    assert planned_runs(bulk_edit) == {run.pk: 1 for run in twelve_runs}


def test_interrupted_block_is_planned_once(
    blocks_of_five: None, twelve_runs: list[Run], alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    bulk_edit = plan_one_block(alice)

    def fail(*_: object, **__: object) -> None:
        raise OperationalError("The connection is gone.")

    with monkeypatch.context() as patched:
        patched.setattr(type(Edit.objects), "bulk_create", fail)
        with pytest.raises(OperationalError):
            complete_plan(bulk_edit)
    bulk_edit.refresh_from_db()
    assert (bulk_edit.status, bulk_edit.planned, bulk_edit.edits.count()) == (BulkEditStatus.PLANNING, 5, 5)
    assert planned_runs(complete_plan(bulk_edit)) == {run.pk: 1 for run in twelve_runs}


def test_claimed_plan_is_not_continued(blocks_of_five: None, twelve_runs: list[Run], alice: User) -> None:
    selection = bulk_edits.by_search("metadata.team:blue")
    bulk_edit = bulk_edits.plan(selection=selection, patch=RED, actor=alice, source=Edit.Source.ADMIN, reason="moved")
    BulkEdit.objects.update(claim_token="0" * 32, claimed_until=timezone.now() + dt.timedelta(seconds=10))
    assert bulk_edits.waiting_plans() == []
    assert complete_plan(bulk_edit).planned == 0
    BulkEdit.objects.update(claimed_until=timezone.now() - dt.timedelta(seconds=1))
    assert bulk_edits.waiting_plans() == [bulk_edit.pk]
    assert complete_plan(bulk_edit).status == BulkEditStatus.PLANNED


def test_internal_error_fails_the_plan(
    blocks_of_five: None, sandbox: Sandbox, twelve_runs: list[Run], alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    bulk_edit = plan_one_block(alice)

    def fail(*_: object) -> None:
        raise RuntimeError("our own error")

    monkeypatch.setattr(planning, "_changing", fail)
    bulk_edit = complete_plan(bulk_edit)
    assert (bulk_edit.status, bulk_edit.claim_token) == (BulkEditStatus.FAILED, None)
    assert "internal error" in bulk_edit.detail
    assert bulk_edit.finished_at is not None
    assert statuses(bulk_edit) == {EditStatus.CANCELLED: 5}
    with pytest.raises(InvalidTransition, match="failed"):
        bulk_edits.apply(bulk_edit=bulk_edit, actor=alice)


def test_planning_of_discarded_plan_stops(blocks_of_five: None, twelve_runs: list[Run], alice: User) -> None:
    bulk_edit = plan_one_block(alice)
    bulk_edits.cancel(bulk_edit=bulk_edit, actor=alice)
    bulk_edit = complete_plan(bulk_edit)
    assert (bulk_edit.status, statuses(bulk_edit)) == (BulkEditStatus.CANCELLED, {EditStatus.CANCELLED: 5})


def test_plan_is_kept_after_its_connection_was_removed(
    connect: Connect, settings: Settings, mirror_run: MakeRun, alice: User
) -> None:
    connect("eu")
    run = mirror_run()
    Thread.objects.update(connection="eu")
    Run.objects.update(connection="eu")
    planned = bulk_edits.plan(
        selection=bulk_edits.by_ids([run.upstream_id]), patch=RED, actor=alice, source=Edit.Source.API, reason="why",
        apply_when_planned=True,
    )  # fmt: skip
    settings.RUNSADMIN_CONNECTIONS = {"default": settings.RUNSADMIN_CONNECTIONS["default"]}
    planned = complete_plan(planned)
    assert planned.status == BulkEditStatus.PLANNED
    assert planned.detail.startswith("The plan was not applied: There is no connection 'eu'")
