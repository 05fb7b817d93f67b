"""A bulk edit, from the choice of its runs to its undo, against a real upstream."""

import datetime as dt
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError
from django.utils import timezone
from pytest_django import Settings

from runsadmin.bulk_patch import BulkPatch
from runsadmin.errors import InvalidMetadata, InvalidSelection, InvalidTransition, NotAllowed
from runsadmin.metadata import MetadataPatch
from runsadmin.models import BulkEdit, BulkEditStatus, ConnectionState, Edit, Run, SelectionSnapshot
from runsadmin.models.bulk_edit import BulkEditQuerySet
from runsadmin.services import bulk_edits, connections, edits, runs
from runsadmin.services.bulk_edits import planning
from runsadmin.services.bulk_edits.progress import changed_since
from runsadmin.services.edits import outcomes
from runsadmin.services.edits.claims import claim_due
from runsadmin.services.permissions import Action
from tests.bulk import at_work, push_until_settled, whole
from tests.conftest import VIEWER, Connect
from tests.sandbox_client import Sandbox, make_run

pytestmark = pytest.mark.django_db(transaction=True)

MakeRun = Callable[..., Run]
S, E, F = BulkEdit.Status, Edit.Status, Edit.PlanResult
RED = BulkPatch({"team": "red"})


def plan(actor: User, query: str = "metadata.team:blue", patch: BulkPatch = RED, **more: Any) -> BulkEdit:
    selection = bulk_edits.by_search(query)
    return whole(
        bulk_edits.plan(
            selection=selection, patch=patch, actor=actor, source=Edit.Source.ADMIN, **{"reason": "moved", **more}
        )
    )


def plan_for(actor: User, *selection: Run, patch: BulkPatch = RED, **more: Any) -> BulkEdit:
    by_ids = bulk_edits.by_ids([run.upstream_id for run in selection])
    return whole(
        bulk_edits.plan(selection=by_ids, patch=patch, actor=actor, source=Edit.Source.ADMIN, reason="moved", **more)
    )


def apply(bulk_edit: BulkEdit, actor: User) -> BulkEdit:
    return push_until_settled(bulk_edits.apply(bulk_edit=bulk_edit, actor=actor))


def undo(bulk_edit: BulkEdit, actor: User) -> BulkEdit:
    return apply(
        whole(bulk_edits.plan_undo(bulk_edit=bulk_edit, actor=actor, source=Edit.Source.ADMIN, reason="a mistake")),
        actor,
    )


def statuses(bulk_edit: BulkEdit) -> dict[str, int]:
    return bulk_edits.progress(bulk_edit).statuses


def only(bulk_edit: BulkEdit) -> Edit:
    return bulk_edit.edits.get()


def metadata(sandbox: Sandbox, some: list[Run]) -> list[Any]:
    return [sandbox.metadata(run.upstream_id) for run in some]


def make_due(bulk_edit: BulkEdit) -> None:
    bulk_edit.edits.filter(status=E.PENDING).update(next_attempt_at=timezone.now())


def stopped_halfway(sandbox: Sandbox, stop: Callable[[], object]) -> int:
    """Stops what a worker is at. Returns how many were sent by then, which is some and not all."""
    with at_work(sandbox):
        stop()
    sandbox.settings(latency_ms=0)
    sent = len(sandbox.posts())
    assert 0 < sent < 12
    return sent


@pytest.fixture
def team(mirrored: MakeRun) -> list[Run]:
    """Twelve runs of two threads."""
    return [mirrored(thread_id=f"thread_{n % 2}", metadata={"team": "blue", "n": str(n)}) for n in range(12)]


@pytest.fixture
def slow(team: list[Run], sandbox: Sandbox, connect: Connect) -> None:
    """From now on two requests at a time, each of which takes a while: there is time to stop it."""
    connect(CONCURRENCY=2)
    sandbox.settings(latency_ms=300)


def test_applied_plan_reaches_upstream(sandbox: Sandbox, team: list[Run], alice: User) -> None:
    bulk_edit = plan(alice)
    assert (bulk_edit.status, bulk_edit.selected, statuses(bulk_edit)) == (S.PLANNED, 12, {E.PLANNED: 12})
    assert sandbox.posts() == []
    sandbox.clear_log()
    bulk_edit = apply(bulk_edit, alice)
    assert (bulk_edit.status, statuses(bulk_edit)) == (S.COMPLETED, {E.APPLIED: 12})
    for n, run in enumerate(team):
        assert Run.objects.get(pk=run.pk).metadata == sandbox.metadata(run.upstream_id) == {"team": "red", "n": str(n)}
    assert len(sandbox.gets()) == 2, "A thread's runs share one look."
    assert not SelectionSnapshot.objects.exists()


# --- Who may, and what is refused before there is a row


def test_reason_is_required(team: list[Run], alice: User) -> None:
    with pytest.raises(InvalidMetadata, match="reason"):
        plan(alice, reason="  ")
    with pytest.raises(InvalidMetadata, match="500"):
        plan(alice, reason="x" * 501)
    assert not BulkEdit.objects.exists()
    done = apply(plan(alice), alice)
    with pytest.raises(InvalidMetadata, match="reason"):
        bulk_edits.plan_undo(bulk_edit=done, actor=alice, source=Edit.Source.ADMIN, reason="")


def test_edits_share_reason_and_actor(team: list[Run], alice: User) -> None:
    bulk_edit = plan(alice, reason="OPS-7", request_id="req-1")
    told = set(bulk_edit.edits.values_list("reason", "actor", "request_id", "source"))
    assert told == {("OPS-7", alice.pk, "req-1", Edit.Source.ADMIN)}


def test_invalid_patch_reports_every_error(team: list[Run], alice: User) -> None:
    with pytest.raises(InvalidMetadata) as mistakes:
        plan(alice, patch=BulkPatch({"k" * 65: "v", "long": "v" * 513, "who": "{nobody}"}, ["long"]))
    codes = {problem.code for problem in mistakes.value.problems}
    assert codes == {"key_too_long", "value_too_long", "invalid_template", "named_twice"}
    with pytest.raises(InvalidMetadata, match="changes nothing"):
        plan(alice, patch=BulkPatch({}))
    assert not BulkEdit.objects.exists()


def test_viewer_neither_plans_nor_applies(team: list[Run], alice: User, carol: User) -> None:
    with pytest.raises(NotAllowed, match=r"runsadmin\.add_bulkedit"):
        plan(carol)
    bulk_edit = plan(alice)
    for verb in (bulk_edits.apply, bulk_edits.pause, bulk_edits.resume, bulk_edits.cancel, bulk_edits.retry):
        with pytest.raises(NotAllowed):
            verb(bulk_edit=bulk_edit, actor=carol)
    assert statuses(bulk_edit) == {E.PLANNED: 12}


def test_colleague_applies_and_is_the_actor(team: list[Run], bob: User, make_user: Callable[..., User]) -> None:
    dave = make_user(*VIEWER, Action.PLAN_BULK_EDITS, username="dave")
    bulk_edit = plan(dave)
    with pytest.raises(NotAllowed, match=r"runsadmin\.apply_bulkedit"):
        bulk_edits.apply(bulk_edit=bulk_edit, actor=dave)
    bulk_edit = apply(bulk_edit, bob)
    assert (bulk_edit.actor, bulk_edit.applied_by) == (dave, bob)
    assert statuses(bulk_edit) == {E.APPLIED: 12}
    assert set(bulk_edit.edits.values_list("actor", flat=True)) == {bob.pk}


def test_unselectable_ids_are_reported(team: list[Run], alice: User) -> None:
    selection = bulk_edits.by_ids([team[0].upstream_id, "run_nobody_knows", team[0].upstream_id])
    bulk_edit = whole(
        bulk_edits.plan(selection=selection, patch=RED, actor=alice, source=Edit.Source.ADMIN, reason="moved")
    )
    assert (bulk_edit.selected, statuses(bulk_edit)) == (1, {E.PLANNED: 1})
    assert bulk_edit.not_selected == [{"id": "run_nobody_knows", "why": "unknown"}]
    with pytest.raises(InvalidSelection, match="run_nobody_knows"):
        bulk_edits.by_ids(["run_nobody_knows"])


def test_selection_has_one_connection(team: list[Run], connect: Connect) -> None:
    connect("eu")
    Run.objects.filter(pk=team[0].pk).update(connection="eu")
    with pytest.raises(InvalidSelection, match="default, eu"):
        bulk_edits.by_search("metadata.team:blue")
    assert bulk_edits.by_search("metadata.team:blue", connection="eu").keys == [team[0].pk]


# --- What the plan finds, one by one


def test_change_is_shown_before_and_after(sandbox: Sandbox, mirrored: MakeRun, alice: User) -> None:
    run = mirrored(metadata={"team": "blue", "old": "1", "gone": "x", "n": "1"})
    edit = only(plan_for(alice, run, patch=BulkPatch({"team": "red"}, ["gone", "never"], {"old": "new"})))
    assert (edit.plan_result, edit.status, edit.base) == (F.CHANGE, E.PLANNED, run.metadata)
    assert edit.base is not None
    assert edit.patch.apply(edit.base) == {"team": "red", "new": "1", "n": "1"}
    assert sandbox.posts() == []


def left_out(bulk_edit: BulkEdit, plan_result: Edit.PlanResult, detail: str) -> bool:
    """Whether its only edit is: told, ended, and not to be sent."""
    edit = only(bulk_edit)
    assert (edit.plan_result, edit.status) == (plan_result, E.SKIPPED)
    assert detail in edit.detail
    assert edit.finished_at is not None
    assert bulk_edits.progress(bulk_edit).plan_results == {plan_result: 1}
    return True


def test_nothing_to_do_is_left_out(mirrored: MakeRun, alice: User) -> None:
    run = mirrored(metadata={"team": "red"})
    assert left_out(
        plan_for(alice, run, patch=BulkPatch({"team": "red"}, ["gone"])),
        F.NOTHING,
        "already has the value to set of 'team', and does not have the key to remove: 'gone'",
    )


def test_run_with_too_many_pairs_is_left_out(mirrored: MakeRun, alice: User) -> None:
    run = mirrored(metadata={f"k{n}": "v" for n in range(16)})
    assert left_out(plan_for(alice, run), F.TOO_MANY_PAIRS, "17 pairs")


def test_too_long_value_is_left_out(mirrored: MakeRun, alice: User) -> None:
    run = mirrored(model="m" * 100)
    assert left_out(plan_for(alice, run, patch=BulkPatch({"x": "{model}" * 6})), F.TOO_LONG, "600 characters")


def test_taken_name_is_left_out_unless_equal(mirrored: MakeRun, alice: User) -> None:
    rename = BulkPatch({}, rename={"old": "new"})
    assert left_out(plan_for(alice, mirrored(metadata={"old": "1", "new": "2"}), patch=rename), F.NAME_TAKEN, "'new'")
    edit = only(plan_for(alice, mirrored(metadata={"old": "1", "new": "1"}), patch=rename))
    assert (edit.plan_result, edit.patch) == (F.CHANGE, MetadataPatch({}, frozenset({"old"})))


def test_run_without_field_value_is_left_out(mirrored: MakeRun, alice: User) -> None:
    bulk_edit = plan_for(alice, mirrored(), patch=BulkPatch({"why": "{error}"}))
    assert left_out(bulk_edit, F.NO_VALUE, "no error")


def test_active_run_is_left_out_unless_awaited(mirrored: MakeRun, alice: User) -> None:
    run = mirrored(status="in_progress")
    assert left_out(plan_for(alice, run), F.ACTIVE, "in_progress")
    assert only(plan_for(alice, run, wait_for_active=dt.timedelta(hours=1))).plan_result == F.CHANGE


def test_missing_run_is_left_out(mirrored: MakeRun, alice: User) -> None:
    run = mirrored()
    Run.objects.update(missing_since=timezone.now())
    assert left_out(plan_for(alice, run), F.MISSING, "no longer")


def test_empty_value_differs_from_removal(sandbox: Sandbox, team: list[Run], alice: User) -> None:
    apply(plan(alice, patch=BulkPatch({"team": ""}, ["n"])), alice)
    assert metadata(sandbox, team) == [{"team": ""}] * 12


# --- Templates


def test_templates_are_filled_per_run(sandbox: Sandbox, mirrored: MakeRun, alice: User) -> None:
    january, may = (int(dt.datetime(2026, month, 5, tzinfo=dt.UTC).timestamp()) for month in (1, 5))
    first = mirrored(model="gpt-4o", created_at=january)
    second = mirrored(model="o3", created_at=may, status="failed", last_error={"code": "server_error", "message": ""})
    patch = BulkPatch({"batch": "{model}-{created:%Y-%m}", "was": "{status} {{}}"})
    apply(plan_for(alice, first, second, patch=patch), alice)
    assert metadata(sandbox, [first, second]) == [
        {"batch": "gpt-4o-2026-01", "was": "completed {}"},
        {"batch": "o3-2026-05", "was": "failed {}"},
    ]


# --- Plans expire


def test_stale_plan_cannot_be_applied(sandbox: Sandbox, team: list[Run], alice: User) -> None:
    bulk_edit = plan(alice)
    assert bulk_edit.expires_at is not None
    BulkEdit.objects.update(expires_at=timezone.now())
    with pytest.raises(InvalidTransition, match="expired"):
        bulk_edits.apply(bulk_edit=bulk_edit, actor=alice)
    edits.process_due(until=time.monotonic() + 5)
    assert sandbox.posts() == []
    assert statuses(bulk_edit) == {E.CANCELLED: 12}


def test_expired_plan_cancels_its_edits(team: list[Run], alice: User) -> None:
    bulk_edit = plan(alice)
    bulk_edits.advance_statuses()
    assert statuses(bulk_edit) == {E.PLANNED: 12}
    BulkEdit.objects.update(expires_at=timezone.now())
    bulk_edits.advance_statuses()
    bulk_edit.refresh_from_db()
    assert (bulk_edit.status, statuses(bulk_edit)) == (S.EXPIRED, {E.CANCELLED: 12})
    assert "expired" in bulk_edit.edits.all()[0].detail


def test_plan_counts_runs_changed_since(sandbox: Sandbox, team: list[Run], alice: User) -> None:
    bulk_edit = plan(alice)
    assert changed_since(bulk_edit) == 0
    for run in team[:3]:
        sandbox.set_metadata(run.upstream_id, {"team": "green"})
        runs.refresh(run=run, actor=alice)
    assert changed_since(bulk_edit) == 3


# --- The plan is made in blocks


@pytest.fixture
def blocks_of_five(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "BLOCK", 5)


def begin(actor: User) -> BulkEdit:
    """A plan of which one block is made."""
    selection = bulk_edits.by_search("metadata.team:blue")
    bulk_edit = bulk_edits.plan(selection=selection, patch=RED, actor=actor, source=Edit.Source.ADMIN, reason="moved")
    return bulk_edits.continue_planning(bulk_edit, until=0)


def planned_runs(bulk_edit: BulkEdit) -> dict[int, int]:
    return Counter(bulk_edit.edits.values_list("run", flat=True))


def test_interrupted_planning_resumes(blocks_of_five: None, team: list[Run], alice: User) -> None:
    bulk_edit = begin(alice)
    assert (bulk_edit.status, bulk_edit.planned, bulk_edit.edits.count()) == (S.PLANNING, 5, 5)
    assert bulk_edits.waiting_plans() == [bulk_edit.pk]
    bulk_edit = whole(bulk_edit)
    assert (bulk_edit.status, bulk_edit.planned) == (S.PLANNED, 12)
    assert planned_runs(bulk_edit) == {run.pk: 1 for run in team}


def test_block_of_dead_planner_is_planned_once(
    blocks_of_five: None, team: list[Run], alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    bulk_edit = begin(alice)

    def dies(*_: object, **__: object) -> None:
        raise OperationalError("The connection is gone.")

    with monkeypatch.context() as patched:
        patched.setattr(type(Edit.objects), "bulk_create", dies)
        with pytest.raises(OperationalError):
            whole(bulk_edit)
    bulk_edit.refresh_from_db()
    assert (bulk_edit.status, bulk_edit.planned, bulk_edit.edits.count()) == (S.PLANNING, 5, 5)
    assert planned_runs(whole(bulk_edit)) == {run.pk: 1 for run in team}


def test_claimed_plan_is_left_alone(blocks_of_five: None, team: list[Run], alice: User) -> None:
    selection = bulk_edits.by_search("metadata.team:blue")
    bulk_edit = bulk_edits.plan(selection=selection, patch=RED, actor=alice, source=Edit.Source.ADMIN, reason="moved")
    BulkEdit.objects.update(claim_token="0" * 32, claimed_until=timezone.now() + dt.timedelta(seconds=10))
    assert bulk_edits.waiting_plans() == []
    assert whole(bulk_edit).planned == 0
    BulkEdit.objects.update(claimed_until=timezone.now() - dt.timedelta(seconds=1))
    assert bulk_edits.waiting_plans() == [bulk_edit.pk]
    assert whole(bulk_edit).status == S.PLANNED


def test_broken_planning_fails_the_plan(
    blocks_of_five: None, sandbox: Sandbox, team: list[Run], alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    bulk_edit = begin(alice)

    def breaks(*_: object) -> None:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(planning, "_fields", breaks)
    with pytest.raises(RuntimeError):
        whole(bulk_edit)
    bulk_edit.refresh_from_db()
    assert (bulk_edit.status, bulk_edit.claim_token) == (S.FAILED, None)
    assert "internal error" in bulk_edit.detail
    assert bulk_edit.finished_at is not None
    assert statuses(bulk_edit) == {E.CANCELLED: 5}
    with pytest.raises(InvalidTransition, match="failed"):
        bulk_edits.apply(bulk_edit=bulk_edit, actor=alice)


def test_discarded_plan_is_planned_no_further(blocks_of_five: None, team: list[Run], alice: User) -> None:
    bulk_edit = begin(alice)
    bulk_edits.cancel(bulk_edit=bulk_edit, actor=alice)
    bulk_edit = whole(bulk_edit)
    assert (bulk_edit.status, statuses(bulk_edit)) == (S.CANCELLED, {E.CANCELLED: 5})


# --- Applying touches what was planned


def test_apply_touches_only_planned_runs(sandbox: Sandbox, team: list[Run], mirrored: MakeRun, alice: User) -> None:
    outside = mirrored(metadata={"team": "green"})
    bulk_edit = plan(alice)
    sandbox.set_metadata(team[0].upstream_id, {"team": "blue", "n": "changed"})
    runs.refresh(run=team[0], actor=alice)
    sandbox.set_metadata(team[1].upstream_id, {"team": "violet"})  # It leaves the filter,
    runs.refresh(run=team[1], actor=alice)
    sandbox.set_metadata(outside.upstream_id, {"team": "blue"})  # another one comes in,
    runs.refresh(run=outside, actor=alice)
    appeared = mirrored(thread_id="thread_0", metadata={"team": "blue"})  # and one is new.
    sandbox.clear_log()
    bulk_edit = apply(bulk_edit, alice)
    assert statuses(bulk_edit) == {E.APPLIED: 11, E.CONFLICT: 1}
    assert set(sandbox.written()) == {run.upstream_id for run in team if run != team[1]}
    assert planned_runs(bulk_edit) == {run.pk: 1 for run in team}
    assert sandbox.metadata(team[0].upstream_id) == {"team": "red", "n": "changed"}
    assert metadata(sandbox, [team[1], outside, appeared]) == [{"team": "violet"}, {"team": "blue"}, {"team": "blue"}]


def test_apply_touches_only_named_runs(sandbox: Sandbox, team: list[Run], alice: User) -> None:
    bulk_edit = apply(plan_for(alice, *team[:5]), alice)
    assert statuses(bulk_edit) == {E.APPLIED: 5}
    assert [pairs["team"] for pairs in metadata(sandbox, team)] == ["red"] * 5 + ["blue"] * 7


def test_concurrently_added_key_survives(sandbox: Sandbox, team: list[Run], alice: User) -> None:
    bulk_edit = plan(alice)
    for run in team:
        sandbox.add_pairs(run.upstream_id, {"theirs": "1"})
    apply(bulk_edit, alice)
    assert metadata(sandbox, team) == [{"team": "red", "n": str(n), "theirs": "1"} for n in range(12)]


def test_concurrently_changed_key_is_a_conflict(sandbox: Sandbox, team: list[Run], alice: User) -> None:
    bulk_edit = plan(alice)
    sandbox.add_pairs(team[3].upstream_id, {"team": "violet"})
    bulk_edit = apply(bulk_edit, alice)
    assert (bulk_edit.status, statuses(bulk_edit)) == (S.COMPLETED, {E.APPLIED: 11, E.CONFLICT: 1})
    (edit,) = bulk_edit.edits.filter(status=E.CONFLICT)
    assert (edit.run, "team" in edit.detail) == (team[3], True)
    assert sandbox.metadata(team[3].upstream_id)["team"] == "violet"


def test_run_deleted_since_is_rejected(sandbox: Sandbox, team: list[Run], alice: User) -> None:
    bulk_edit = plan(alice)
    sandbox.delete_run(team[3].upstream_id)
    assert statuses(apply(bulk_edit, alice)) == {E.APPLIED: 11, E.REJECTED: 1}


def test_queued_until_first_claim(slow: None, sandbox: Sandbox, team: list[Run], alice: User) -> None:
    bulk_edit = bulk_edits.apply(bulk_edit=plan(alice), actor=alice)
    assert bulk_edit.status == S.QUEUED
    bulk_edits.advance_statuses()
    bulk_edit.refresh_from_db()
    assert bulk_edit.status == S.QUEUED
    with at_work(sandbox):
        bulk_edits.advance_statuses()
        bulk_edit.refresh_from_db()
        assert bulk_edit.status == S.RUNNING


def test_plan_is_applied_once(team: list[Run], alice: User) -> None:
    bulk_edit = bulk_edits.apply(bulk_edit=plan(alice), actor=alice)
    with pytest.raises(InvalidTransition, match="queued"):
        bulk_edits.apply(bulk_edit=bulk_edit, actor=alice)
    assert Counter(statuses(bulk_edit)) == {E.PENDING: 12}


def test_empty_plan_completes_at_once(sandbox: Sandbox, team: list[Run], alice: User) -> None:
    bulk_edit = apply(plan(alice, patch=BulkPatch({"team": "blue"})), alice)
    assert (bulk_edit.status, statuses(bulk_edit)) == (S.COMPLETED, {E.SKIPPED: 12})


# --- Canary, pause, resume, cancel


def test_canary_pauses_and_resumes(sandbox: Sandbox, team: list[Run], alice: User) -> None:
    bulk_edit = apply(plan(alice, canary=3), alice)
    assert (bulk_edit.status, statuses(bulk_edit)) == (S.PAUSED, {E.APPLIED: 3, E.PLANNED: 9})
    assert "first 3" in bulk_edit.detail
    assert len(sandbox.posts()) == 3
    bulk_edit = push_until_settled(bulk_edits.resume(bulk_edit=bulk_edit, actor=alice))
    assert (bulk_edit.status, statuses(bulk_edit)) == (S.COMPLETED, {E.APPLIED: 12})
    assert len(sandbox.posts()) == 12


def test_canary_ended_between_checks_pauses(team: list[Run], alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    bulk_edit = bulk_edits.apply(bulk_edit=plan(alice, canary=1), actor=alice)
    transition_to = BulkEditQuerySet.transition_to

    def ends_after_the_first_look(rows: BulkEditQuerySet, status: BulkEditStatus, **values: object) -> int:
        moved = transition_to(rows, status, **values)
        if status == S.PAUSED:
            bulk_edit.edits.filter(status=E.PENDING).update(status=E.FAILED, finished_at=timezone.now())
        return moved

    with monkeypatch.context() as patched:
        patched.setattr(BulkEditQuerySet, "transition_to", ends_after_the_first_look)
        bulk_edits.advance_statuses()
    bulk_edits.advance_statuses()
    bulk_edit.refresh_from_db()
    assert (bulk_edit.status, statuses(bulk_edit)) == (S.PAUSED, {E.FAILED: 1, E.PLANNED: 11})


def test_canary_larger_than_plan_is_none(team: list[Run], alice: User) -> None:
    assert apply(plan(alice, canary=100), alice).status == S.COMPLETED
    with pytest.raises(InvalidSelection, match="canary"):
        plan(alice, "metadata.team:red", canary=0)


def test_cancelled_canary_sends_no_more(sandbox: Sandbox, team: list[Run], alice: User) -> None:
    bulk_edit = apply(plan(alice, canary=3), alice)
    bulk_edit = bulk_edits.cancel(bulk_edit=bulk_edit, actor=alice)
    assert (bulk_edit.status, statuses(bulk_edit)) == (S.CANCELLED, {E.APPLIED: 3, E.CANCELLED: 9})
    assert Counter(pairs["team"] for pairs in metadata(sandbox, team)) == {"red": 3, "blue": 9}


def test_paused_bulk_edit_sends_nothing(slow: None, sandbox: Sandbox, team: list[Run], alice: User) -> None:
    bulk_edit = bulk_edits.apply(bulk_edit=plan(alice), actor=alice)
    sent = stopped_halfway(sandbox, lambda: bulk_edits.pause(bulk_edit=bulk_edit, actor=alice))
    bulk_edits.advance_statuses()
    edits.process_due(until=time.monotonic() + 2)
    assert len(sandbox.posts()) == sent
    bulk_edit.refresh_from_db()
    assert (bulk_edit.status, statuses(bulk_edit)) == (S.PAUSED, {E.APPLIED: sent, E.PENDING: 12 - sent})
    assert "alice" in bulk_edit.detail
    bulk_edit = push_until_settled(bulk_edits.resume(bulk_edit=bulk_edit, actor=alice))
    assert (bulk_edit.status, statuses(bulk_edit)) == (S.COMPLETED, {E.APPLIED: 12})
    assert len(sandbox.posts()) == 12


def test_cancelled_counts_add_up(slow: None, sandbox: Sandbox, team: list[Run], alice: User) -> None:
    bulk_edit = bulk_edits.apply(bulk_edit=plan(alice), actor=alice)
    sent = stopped_halfway(sandbox, lambda: bulk_edits.cancel(bulk_edit=bulk_edit, actor=alice))
    bulk_edits.advance_statuses()
    assert statuses(bulk_edit) == {E.APPLIED: sent, E.CANCELLED: 12 - sent}
    assert Counter(pairs["team"] for pairs in metadata(sandbox, team)) == {"red": sent, "blue": 12 - sent}
    edits.process_due(until=time.monotonic() + 2)
    assert len(sandbox.posts()) == sent
    with pytest.raises(InvalidTransition, match="cancelled"):
        bulk_edits.resume(bulk_edit=bulk_edit, actor=alice)


def test_impossible_action_is_refused(team: list[Run], alice: User) -> None:
    bulk_edit = plan(alice)
    for verb in (bulk_edits.pause, bulk_edits.resume, bulk_edits.retry):
        with pytest.raises(InvalidTransition, match="this one is planned"):
            verb(bulk_edit=bulk_edit, actor=alice)
    with pytest.raises(InvalidTransition, match="nothing to undo"):
        bulk_edits.plan_undo(bulk_edit=bulk_edit, actor=alice, source=Edit.Source.ADMIN, reason="a mistake")


# --- Active runs


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcomes, "WAIT_FOR_RUN", dt.timedelta(seconds=0.1))


def test_active_runs_are_waited_for(short_pauses: None, sandbox: Sandbox, mirrored: MakeRun, alice: User) -> None:
    active, ended = mirrored(status="in_progress"), mirrored()
    bulk_edit = plan_for(alice, active, ended, wait_for_active=dt.timedelta(minutes=1))
    bulk_edit = bulk_edits.apply(bulk_edit=bulk_edit, actor=alice)
    edits.process_due(until=time.monotonic() + 5)
    bulk_edits.advance_statuses()
    assert statuses(bulk_edit) == {E.APPLIED: 1, E.PENDING: 1}
    assert bulk_edit.edits.get(status=E.PENDING).wait_reason == Edit.WaitReason.ACTIVE_RUN
    sandbox.change_run(active.upstream_id, status="completed")
    assert statuses(push_until_settled(bulk_edit)) == {E.APPLIED: 2}


def test_active_runs_fail_at_the_deadline(short_pauses: None, sandbox: Sandbox, mirrored: MakeRun, alice: User) -> None:
    active = mirrored(status="in_progress")
    bulk_edit = apply(plan_for(alice, active, wait_for_active=dt.timedelta(seconds=0.5)), alice)
    edit = only(bulk_edit)
    assert (bulk_edit.status, edit.status) == (S.COMPLETED, E.FAILED)
    assert "in_progress" in edit.detail
    assert len(sandbox.posts()) == 1, "The first refusal is known: from then on it only looks."
    sandbox.change_run(active.upstream_id, status="completed")
    bulk_edit = push_until_settled(bulk_edits.retry(bulk_edit=bulk_edit, actor=alice))
    assert (bulk_edit.status, only(bulk_edit).status) == (S.COMPLETED, E.APPLIED)


def test_active_run_fails_unless_awaited(sandbox: Sandbox, mirrored: MakeRun, alice: User) -> None:
    run = mirrored()
    bulk_edit = plan_for(alice, run)
    sandbox.change_run(run.upstream_id, status="in_progress")
    bulk_edit = apply(bulk_edit, alice)
    assert (bulk_edit.status, only(bulk_edit).status) == (S.COMPLETED, E.FAILED)


# --- Retry


def test_only_failed_edits_are_retried(sandbox: Sandbox, team: list[Run], alice: User, settings: Settings) -> None:
    settings.RUNSADMIN_MAX_ATTEMPTS = 1
    bulk_edit = plan(alice)
    sandbox.add_pairs(team[1].upstream_id, {"team": "violet"})
    sandbox.fault("status", status=409, method="POST", path=team[0].upstream_id)
    bulk_edit = apply(bulk_edit, alice)
    assert (bulk_edit.status, statuses(bulk_edit)) == (S.COMPLETED, {E.APPLIED: 10, E.FAILED: 1, E.CONFLICT: 1})
    sandbox.clear_log()
    bulk_edit = push_until_settled(bulk_edits.retry(bulk_edit=bulk_edit, actor=alice))
    assert (bulk_edit.status, statuses(bulk_edit)) == (S.COMPLETED, {E.APPLIED: 11, E.CONFLICT: 1})
    assert len(sandbox.posts()) == len(sandbox.posts(team[0].upstream_id)) == 1
    with pytest.raises(InvalidTransition, match="completed"):
        bulk_edits.retry(bulk_edit=bulk_edit, actor=alice)


def test_single_failed_edit_is_retried(sandbox: Sandbox, team: list[Run], alice: User, settings: Settings) -> None:
    settings.RUNSADMIN_MAX_ATTEMPTS = 2
    bulk_edit = plan(alice)
    sandbox.fault("status", status=409, method="POST", path=team[0].upstream_id, times=3)
    bulk_edit = apply(bulk_edit, alice)
    assert (bulk_edit.status, statuses(bulk_edit)) == (S.COMPLETED, {E.APPLIED: 11, E.FAILED: 1})
    edit = edits.push(edits.retry(edit=bulk_edit.edits.get(status=E.FAILED), actor=alice))
    assert edit.status == E.PENDING, "It is refused once more: the background has to go on."
    bulk_edit.refresh_from_db()
    assert (bulk_edit.is_in_progress, bulk_edit.finished_at) == (True, None)
    assert statuses(push_until_settled(bulk_edit)) == {E.APPLIED: 12}


def test_retried_edit_waits_for_its_run_again(team: list[Run], alice: User) -> None:
    bulk_edit = apply(plan(alice), alice)
    wait = dt.timedelta(minutes=5)
    BulkEdit.objects.update(wait_for_active=wait, active_until=timezone.now())
    Edit.objects.filter(pk=bulk_edit.edits.all()[0].pk).update(status=E.FAILED)
    edits.retry(edit=Edit.objects.get(status=E.FAILED), actor=alice)
    bulk_edit.refresh_from_db()
    assert bulk_edit.active_until is not None
    assert bulk_edit.active_until > timezone.now() + wait / 2


def test_edit_of_cancelled_bulk_is_not_retried(team: list[Run], alice: User) -> None:
    bulk_edit = bulk_edits.cancel(bulk_edit=apply(plan(alice, canary=3), alice), actor=alice)
    failed = bulk_edit.edits.filter(status=E.APPLIED)[0]
    Edit.objects.filter(pk=failed.pk).update(status=E.FAILED)
    failed.refresh_from_db()
    with pytest.raises(InvalidTransition, match="was cancelled"):
        edits.retry(edit=failed, actor=alice)
    failed.refresh_from_db()
    assert failed.status == E.FAILED


# --- Undo and redo


def test_undo_restores_each_map(sandbox: Sandbox, team: list[Run], alice: User) -> None:
    done = apply(plan(alice, patch=BulkPatch({"team": "red", "new": "1"}, rename={"n": "number"})), alice)
    way_back = whole(bulk_edits.plan_undo(bulk_edit=done, actor=alice, source=Edit.Source.ADMIN, reason="a mistake"))
    assert (way_back.undoes, way_back.status, statuses(way_back)) == (done, S.PLANNED, {E.PLANNED: 12})
    for edit in way_back.edits.select_related("undoes"):
        assert edit.undoes is not None
        assert edit.base is not None
        assert edit.patch.apply(edit.base) == edit.undoes.before
    assert len(sandbox.posts()) == 12, "Nothing is sent before it is applied."
    way_back = apply(way_back, alice)
    assert (way_back.status, statuses(way_back)) == (S.COMPLETED, {E.APPLIED: 12})
    assert metadata(sandbox, team) == [{"team": "blue", "n": str(n)} for n in range(12)]


def test_redo_is_undo_of_the_undo(sandbox: Sandbox, team: list[Run], alice: User) -> None:
    redone = undo(undo(apply(plan(alice), alice), alice), alice)
    assert statuses(redone) == {E.APPLIED: 12}
    assert metadata(sandbox, team) == [{"team": "red", "n": str(n)} for n in range(12)]


def test_undo_of_cancelled_restores_the_applied(sandbox: Sandbox, team: list[Run], alice: User) -> None:
    done = bulk_edits.cancel(bulk_edit=apply(plan(alice, canary=4), alice), actor=alice)
    assert statuses(undo(done, alice)) == {E.APPLIED: 4}
    assert metadata(sandbox, team) == [{"team": "blue", "n": str(n)} for n in range(12)]


def test_paused_must_be_cancelled_to_undo(sandbox: Sandbox, team: list[Run], alice: User) -> None:
    paused = apply(plan(alice, canary=3), alice)
    with pytest.raises(InvalidTransition, match="has ended can be undone; this one is paused"):
        bulk_edits.plan_undo(bulk_edit=paused, actor=alice, source=Edit.Source.ADMIN, reason="a mistake")
    assert BulkEdit.objects.get() == paused
    assert statuses(undo(bulk_edits.cancel(bulk_edit=paused, actor=alice), alice)) == {E.APPLIED: 3}


def test_undo_waits_for_edits_in_flight(sandbox: Sandbox, team: list[Run], alice: User) -> None:
    bulk_edit = bulk_edits.resume(bulk_edit=apply(plan(alice, canary=3), alice), actor=alice)
    assert len(claim_due("default", 2)) == 2
    bulk_edits.cancel(bulk_edit=bulk_edit, actor=alice)
    with pytest.raises(InvalidTransition, match="still under way"):
        bulk_edits.plan_undo(bulk_edit=bulk_edit, actor=alice, source=Edit.Source.ADMIN, reason="a mistake")
    bulk_edit.edits.filter(status=E.SENDING).update(claimed_until=timezone.now())
    edits.release_expired()
    bulk_edits.advance_statuses()
    assert statuses(undo(bulk_edit, alice)) == {E.APPLIED: 3}


def test_undo_skips_pairs_changed_in_mirror(sandbox: Sandbox, team: list[Run], alice: User) -> None:
    done = apply(plan(alice, patch=BulkPatch({"team": "red", "new": "1"})), alice)
    sandbox.add_pairs(team[0].upstream_id, {"team": "violet", "new": "2"})
    sandbox.add_pairs(team[1].upstream_id, {"team": "violet"})
    for run in team[:2]:
        runs.refresh(run=run, actor=alice)
    way_back = whole(bulk_edits.plan_undo(bulk_edit=done, actor=alice, source=Edit.Source.ADMIN, reason="a mistake"))
    assert bulk_edits.progress(way_back).plan_results == {F.CHANGE: 11, F.CHANGED_SINCE: 1}
    way_back = apply(way_back, alice)
    assert statuses(way_back) == {E.APPLIED: 11, E.SKIPPED: 1}
    wholly, partly = way_back.edits.get(run=team[0]), way_back.edits.get(run=team[1])
    assert "changed after the edit: new, team." in wholly.detail
    assert "changed after the edit: team." in partly.detail
    assert sandbox.metadata(team[0].upstream_id) == {"team": "violet", "n": "0", "new": "2"}
    assert sandbox.metadata(team[1].upstream_id) == {"team": "violet", "n": "1"}
    assert metadata(sandbox, team[2:]) == [{"team": "blue", "n": str(n)} for n in range(2, 12)]


def test_undo_skips_pairs_changed_upstream(sandbox: Sandbox, team: list[Run], alice: User) -> None:
    done = apply(plan(alice, patch=BulkPatch({"team": "red", "new": "1"})), alice)
    sandbox.add_pairs(team[0].upstream_id, {"team": "violet", "new": "2"})
    sandbox.add_pairs(team[1].upstream_id, {"team": "violet"})
    way_back = undo(done, alice)
    assert statuses(way_back) == {E.APPLIED: 11, E.CONFLICT: 1}
    wholly, partly = way_back.edits.get(run=team[0]), way_back.edits.get(run=team[1])
    assert (wholly.status, "new, team" in wholly.detail) == (E.CONFLICT, True)
    assert (partly.status, "changed after the edit: team." in partly.detail) == (E.APPLIED, True)
    assert sandbox.metadata(team[0].upstream_id) == {"team": "violet", "n": "0", "new": "2"}
    assert sandbox.metadata(team[1].upstream_id) == {"team": "violet", "n": "1"}
    assert metadata(sandbox, team[2:]) == [{"team": "blue", "n": str(n)} for n in range(2, 12)]


def test_undo_leaves_a_missing_run(sandbox: Sandbox, team: list[Run], alice: User) -> None:
    done = apply(plan(alice), alice)
    Run.objects.filter(pk=team[0].pk).update(missing_since=timezone.now())
    way_back = whole(bulk_edits.plan_undo(bulk_edit=done, actor=alice, source=Edit.Source.ADMIN, reason="a mistake"))
    assert bulk_edits.progress(way_back).plan_results == {F.CHANGE: 11, F.MISSING: 1}


# --- With others at work


def test_concurrent_bulk_edits_share(
    connect: Connect, sandbox: Sandbox, team: list[Run], mirrored: MakeRun, alice: User, bob: User
) -> None:
    connect(CONCURRENCY=1)
    others = [mirrored(thread_id="thread_3", metadata={"team": "green"}) for _ in range(12)]
    first, second = plan(alice), plan(bob, "metadata.team:green")
    sandbox.settings(latency_ms=40)
    for bulk_edit, actor in ((first, alice), (second, bob)):
        bulk_edits.apply(bulk_edit=bulk_edit, actor=actor)
    push_until_settled(first)
    push_until_settled(second)
    assert statuses(first) == statuses(second) == {E.APPLIED: 12}
    theirs = {run.upstream_id for run in others}
    halfway = sum(run_id in theirs for run_id in sandbox.written()[:12])
    assert 3 <= halfway <= 9, "Both have come about as far."


def test_bulk_edits_of_same_runs_take_turns(sandbox: Sandbox, team: list[Run], alice: User, bob: User) -> None:
    first, second = plan(alice), plan(bob, patch=BulkPatch({"env": "prod"}))
    for bulk_edit in (second, first):
        bulk_edits.apply(bulk_edit=bulk_edit, actor=bob)
    assert statuses(push_until_settled(first)) == statuses(push_until_settled(second)) == {E.APPLIED: 12}
    assert metadata(sandbox, team) == [{"team": "red", "n": str(n), "env": "prod"} for n in range(12)]


def record(run: Run, actor: User, **pairs: str) -> Edit:
    edit = edits.record(run=run, patch=MetadataPatch(pairs), actor=actor, source=Edit.Source.ADMIN)
    Edit.objects.filter(pk=edit.pk).update(next_attempt_at=timezone.now())
    return edit


def test_single_edit_goes_first(
    connect: Connect, sandbox: Sandbox, team: list[Run], mirrored: MakeRun, alice: User, bob: User
) -> None:
    connect(CONCURRENCY=1)
    run = mirrored(thread_id="thread_9", metadata={"team": "green"})
    bulk_edit = bulk_edits.apply(bulk_edit=plan(alice), actor=alice)
    record(run, bob, env="prod")
    push_until_settled(bulk_edit)
    assert run.upstream_id in sandbox.written()[:4]


def test_single_edit_of_same_run_goes_first(sandbox: Sandbox, team: list[Run], alice: User, bob: User) -> None:
    bulk_edit = bulk_edits.apply(bulk_edit=plan(alice), actor=alice)
    single = record(team[5], bob, env="prod")
    push_until_settled(bulk_edit)
    single.refresh_from_db()
    bulk = bulk_edit.edits.get(run=team[5])
    assert (single.status, statuses(bulk_edit)) == (E.APPLIED, {E.APPLIED: 12})
    assert single.finished_at is not None
    assert bulk.finished_at is not None
    assert single.finished_at < bulk.finished_at
    assert sandbox.metadata(team[5].upstream_id) == {"team": "red", "n": "5", "env": "prod"}


def test_single_edit_passes_a_paused_bulk_edit(sandbox: Sandbox, team: list[Run], alice: User, bob: User) -> None:
    bulk_edit = bulk_edits.apply(bulk_edit=plan(alice), actor=alice)
    bulk_edits.pause(bulk_edit=bulk_edit, actor=alice)
    assert edits.push(record(team[0], bob, team="violet")).status == E.APPLIED
    single = record(team[1], bob, team="violet")
    edits.process_due(until=time.monotonic() + 5)
    single.refresh_from_db()
    assert single.status == E.APPLIED
    bulk_edit = push_until_settled(bulk_edits.resume(bulk_edit=bulk_edit, actor=alice))
    assert statuses(bulk_edit) == {E.APPLIED: 10, E.CONFLICT: 2}


def test_bulk_edit_passes_a_paused_one(team: list[Run], alice: User) -> None:
    first, second = plan(alice), plan(alice, patch=BulkPatch({"env": "prod"}))
    bulk_edits.pause(bulk_edit=bulk_edits.apply(bulk_edit=first, actor=alice), actor=alice)
    assert statuses(apply(second, alice)) == {E.APPLIED: 12}


def test_permission_is_checked_at_the_claim(sandbox: Sandbox, team: list[Run], alice: User) -> None:
    bulk_edit = bulk_edits.apply(bulk_edit=plan(alice), actor=alice)
    alice.user_permissions.clear()
    bulk_edit = push_until_settled(bulk_edit)
    assert (bulk_edit.status, statuses(bulk_edit)) == (S.COMPLETED, {E.REJECTED: 12})
    assert "may no longer edit metadata" in bulk_edit.edits.all()[0].detail
    assert sandbox.posts() == []


def test_hold_rejects_nothing(sandbox: Sandbox, team: list[Run], alice: User) -> None:
    bulk_edit = bulk_edits.apply(bulk_edit=plan(alice), actor=alice)
    sandbox.settings(api_key="another-key")
    edits.process_due(until=time.monotonic() + 5)
    bulk_edits.advance_statuses()
    assert connections.is_held("default")
    bulk_edit.refresh_from_db()
    assert (bulk_edit.is_in_progress, statuses(bulk_edit)) == (True, {E.PENDING: 12})
    assert sandbox.posts() == []
    assert edits.process_due(until=time.monotonic() + 1) == 0, "Nothing is even taken up."
    sandbox.settings(api_key=sandbox.key)
    connections.release("default")
    make_due(bulk_edit)
    assert statuses(push_until_settled(bulk_edit)) == {E.APPLIED: 12}


def test_hold_during_bulk_edit_stops_sending(slow: None, sandbox: Sandbox, team: list[Run], alice: User) -> None:
    bulk_edit = bulk_edits.apply(bulk_edit=plan(alice), actor=alice)
    hold = ConnectionState.Hold.OPERATOR
    sent = stopped_halfway(sandbox, lambda: connections.hold("default", hold, "bob stopped all sending."))
    assert statuses(bulk_edit) == {E.APPLIED: sent, E.PENDING: 12 - sent}
    connections.release("default")
    make_due(bulk_edit)
    assert statuses(push_until_settled(bulk_edit)) == {E.APPLIED: 12}
    assert len(sandbox.posts()) == 12


# --- One look for many runs


def lone_gets(sandbox: Sandbox) -> int:
    return sum("/runs/" in call["path"] for call in sandbox.gets())


def lists(sandbox: Sandbox) -> int:
    return sum(call["path"].endswith("/runs") for call in sandbox.gets())


def test_run_not_on_the_page_is_fetched_alone(sandbox: Sandbox, mirrored: MakeRun, alice: User) -> None:
    now = int(time.time())
    new = [mirrored(thread_id="thread_long", created_at=now - n) for n in range(2)]
    old = mirrored(thread_id="thread_long", created_at=now - 1000)
    sandbox.put_runs([make_run(thread_id="thread_long", created_at=now - 10 - n) for n in range(110)])
    bulk_edit = plan_for(alice, *new, old)
    sandbox.clear_log()
    assert statuses(apply(bulk_edit, alice)) == {E.APPLIED: 3}
    assert (lists(sandbox), lone_gets(sandbox)) == (1, 1)
    assert len(sandbox.gets(old.upstream_id)) == 1


def test_long_thread_is_read_in_pages(sandbox: Sandbox, mirrored: MakeRun, alice: User) -> None:
    now = int(time.time())
    new = [mirrored(thread_id="thread_long", created_at=now - n) for n in range(2)]
    old = [mirrored(thread_id="thread_long", created_at=now - 1000 - n) for n in range(2)]
    sandbox.put_runs([make_run(thread_id="thread_long", created_at=now - 10 - n) for n in range(110)])
    bulk_edit = plan_for(alice, *new, *old)
    sandbox.clear_log()
    assert statuses(apply(bulk_edit, alice)) == {E.APPLIED: 4}
    assert (lists(sandbox), lone_gets(sandbox)) == (2, 0)


@pytest.mark.parametrize("status", [400, 404, 405])
def test_failed_list_falls_back_to_fetches(status: int, sandbox: Sandbox, team: list[Run], alice: User) -> None:
    bulk_edit = plan(alice)
    sandbox.clear_log()
    sandbox.fault("status", status=status, method="GET", path=r"/runs$", times=None)
    assert statuses(apply(bulk_edit, alice)) == {E.APPLIED: 12}
    assert (lists(sandbox), lone_gets(sandbox)) == (2, 12)


def test_temporarily_failed_list_is_retried(sandbox: Sandbox, team: list[Run], alice: User) -> None:
    bulk_edit = plan(alice)
    sandbox.clear_log()
    sandbox.fault("status", status=500, method="GET", path=r"thread_0/runs$")
    assert statuses(apply(bulk_edit, alice)) == {E.APPLIED: 12}
    assert (lists(sandbox), lone_gets(sandbox)) == (3, 0)
