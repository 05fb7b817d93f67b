"""`edit_metadata` for many runs: a bulk edit in the foreground, without a worker."""

import io
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection

from runsadmin.bulk_patch import BulkPatch
from runsadmin.management import bulk_edit_runner
from runsadmin.models import BulkEdit, Edit, Run
from runsadmin.services import bulk_edits, runs
from tests.conftest import Connect, MakeRun
from tests.management.conftest import Manage, Output
from tests.sandbox_client import Sandbox
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

REASON_AND_ACTOR = ("--reason", "moved", "--actor", "alice")
SET_RED = ("--set", "team=red", *REASON_AND_ACTOR)


@pytest.fixture
def eight_ids(mirror_run: MakeRun) -> list[str]:
    """The ids of eight runs in two threads."""
    return [
        mirror_run(id=f"run_{n}", thread_id=f"thread_{n % 2}", metadata={"team": "blue", "n": str(n)}).upstream_id
        for n in range(8)
    ]


def test_search_is_planned_and_applied(
    sandbox: Sandbox, eight_ids: list[str], mirror_run: MakeRun, manage: Manage, alice: User
) -> None:
    mirror_run(id="run_other", metadata={"team": "green"})
    mirror_run(id="run_active", metadata={"team": "blue", "owner": "bob"}, status="in_progress")

    output = manage(
        "edit_metadata",
        "--where",
        "metadata.team:blue",
        "--set",
        "team={model} red",
        "--rename",
        "n=number",
        *REASON_AND_ACTOR,
    )

    bulk_edit = BulkEdit.objects.get()
    assert output.code == 0, output.err
    first, *diffs, more, last = output.out.splitlines()
    assert first == f"Bulk edit {bulk_edit.pk}: 9 runs of default: active when planned 1, change 8."
    assert len(diffs) == 5
    assert "  run_6: n: 6 → (removed), number: (none) → 6, team: blue → gpt-4o red" in diffs
    assert more == f"  … and 3 more: /admin/runsadmin/bulkedit/{bulk_edit.pk}/change/"
    assert last == f"Bulk edit {bulk_edit.pk}: completed: applied 8, skipped 1."
    assert [sandbox.metadata(id) for id in eight_ids] == [{"team": "gpt-4o red", "number": str(n)} for n in range(8)]
    assert (bulk_edit.actor, bulk_edit.applied_by, bulk_edit.reason) == (alice, alice, "moved")
    assert sandbox.metadata("run_other") == {"team": "green"}


def test_dates_are_in_the_given_time_zone(mirror_run: MakeRun, manage: Manage, alice: User) -> None:
    mirror_run(id="run_a", created_at=1772326800)  # 2026-03-01T01:00 in UTC, and the day before in New York.
    dry_run = ("edit_metadata", "--where", "created:2026-02-28", "--dry-run", *SET_RED)

    assert manage(*dry_run).err == "No run matches, so there is nothing to plan.\n"
    assert manage(*dry_run, "--tz", "America/New_York").code == 0
    assert BulkEdit.objects.get().tz == "America/New_York"
    assert "Europe/Berlin" in manage(*dry_run, "--tz", "+02:00").err
    assert "--where" in manage("edit_metadata", "run_a", "--tz", "UTC", *SET_RED).err


def test_dry_run_sends_nothing(sandbox: Sandbox, eight_ids: list[str], manage: Manage, alice: User) -> None:
    output = manage("edit_metadata", *eight_ids, "--dry-run", *SET_RED)

    bulk_edit = BulkEdit.objects.get()
    assert (output.code, bulk_edit.status) == (0, "planned")
    *_, last = output.out.splitlines()
    assert f"--resume {bulk_edit.pk}" in last
    assert f"/admin/runsadmin/bulkedit/{bulk_edit.pk}/change/" in last
    assert sandbox.posts() == []

    output = manage("edit_metadata", "--resume", str(bulk_edit.pk), "--actor", "alice")
    assert output.code == 0, output.err
    assert len(sandbox.posts()) == 8
    output = manage("edit_metadata", "--resume", str(bulk_edit.pk), "--actor", "alice")
    assert (output.code, output.err) == (1, f"Bulk edit {bulk_edit.pk} is completed: nothing was done.\n")


def test_dry_run_without_changes_needs_no_apply(mirror_run: MakeRun, manage: Manage, alice: User) -> None:
    mirror_run(id="run_a", metadata={"team": "red"})
    output = manage("edit_metadata", "run_a", "--dry-run", *SET_RED)
    assert output.out.splitlines()[-1] == "Nothing was sent, and there is nothing to apply."


@pytest.mark.parametrize("selected_by", ["ids", "search"])
def test_resume_edits_only_planned_runs(
    selected_by: str, sandbox: Sandbox, eight_ids: list[str], mirror_run: MakeRun, manage: Manage, alice: User
) -> None:
    selection = eight_ids if selected_by == "ids" else ["--where", "metadata.team:blue"]
    assert manage("edit_metadata", *selection, "--dry-run", "--set", "owner=alice", *REASON_AND_ACTOR).code == 0
    bulk_edit = BulkEdit.objects.get()
    sandbox.set_metadata("run_0", {"team": "green"})  # This run no longer matches the search.
    runs.refresh(run=Run.objects.get(upstream_id="run_0"), actor=alice)
    sandbox.add_pairs("run_1", {"added": "upstream"})
    mirror_run(id="run_new", thread_id="thread_0", metadata={"team": "blue"})  # This run also matches the search.
    sandbox.clear_log()

    output = manage("edit_metadata", "--resume", str(bulk_edit.pk), "--actor", "alice")

    assert output.code == 0, output.err
    assert sorted(sandbox.posted_run_ids()) == sorted(eight_ids)
    assert sandbox.metadata("run_0") == {"team": "green", "owner": "alice"}
    assert sandbox.metadata("run_1") == {"team": "blue", "n": "1", "added": "upstream", "owner": "alice"}
    assert sandbox.metadata("run_new") == {"team": "blue"}


@pytest.mark.parametrize("source", ["file", "standard input"])
def test_ids_are_read_from_a_file(
    source: str, sandbox: Sandbox, eight_ids: list[str], manage: Manage, alice: User, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    lines = "run_1\nrun_x\n\n  run_2\nrun_1\nrun_y\n"
    ids = tmp_path / "ids.txt"
    ids.write_text(lines)
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))

    output = manage("edit_metadata", "--ids-from", "-" if source == "standard input" else str(ids), *SET_RED)

    assert output.code == 1
    assert output.err.splitlines()[:2] == [
        "run_x: this run is not in the mirror, so it was not edited. Check the id, or sync its thread first.",
        "run_y: this run is not in the mirror, so it was not edited. Check the id, or sync its thread first.",
    ]
    assert set(sandbox.posted_run_ids()) == {"run_1", "run_2"}
    assert BulkEdit.objects.get().status == "completed"


def test_unknown_ids_plan_nothing(sandbox: Sandbox, manage: Manage, alice: User) -> None:
    output = manage("edit_metadata", "run_x", "run_y", "--dry-run", *SET_RED)
    assert output.code == 1
    assert [line.split(":")[0] for line in output.err.splitlines()[:2]] == ["run_x", "run_y"]
    assert not BulkEdit.objects.exists()


def test_failures_are_listed_with_exit_code(
    sandbox: Sandbox, eight_ids: list[str], manage: Manage, alice: User
) -> None:
    sandbox.set_metadata("run_3", {"team": "green"})
    sandbox.fault("status", status=400, method="POST", path="run_4", body={"error": {"message": "Not today."}})

    output = manage("edit_metadata", "--where", "metadata.team:blue", *SET_RED)

    assert output.code == 1
    assert "run_3: conflict. Someone else changed these keys in the meantime: team." in output.err
    assert "run_4: rejected. Not today." in output.err
    assert output.out.splitlines()[-1].endswith("completed: applied 6, conflict 1, rejected 1.")


def test_output_can_be_json(sandbox: Sandbox, eight_ids: list[str], manage: Manage, alice: User) -> None:
    sandbox.set_metadata("run_0", {"team": "green"})
    output = manage("edit_metadata", "run_0", "run_1", "run_x", "--rename", "team=group", *REASON_AND_ACTOR, "--json")

    bulk_edit = BulkEdit.objects.get()
    url = f"/admin/runsadmin/bulkedit/{bulk_edit.pk}/change/"
    unknown, planned, *diffs, conflict, ended = output.objects
    assert output.code == 1
    assert (unknown["run"], unknown["status"]) == ("run_x", None)
    assert planned | {"expires_at": None} == {
        "bulk_edit": bulk_edit.pk, "status": "planned", "connection": "default", "selected": 2,
        "plan_results": {"change": 2}, "expires_at": None, "page": url,
    }  # fmt: skip
    assert {diff["run"]: (diff["before"], diff["after"]) for diff in diffs} == {
        f"run_{n}": ({"team": "blue", "n": str(n)}, {"group": "blue", "n": str(n)}) for n in range(2)
    }
    assert (conflict["run"], conflict["status"]) == ("run_0", "conflict")
    assert ended == {
        "bulk_edit": bulk_edit.pk, "status": "completed", "statuses": {"applied": 1, "conflict": 1}, "detail": "",
        "page": url,
    }  # fmt: skip


def test_json_reports_every_error(
    sandbox: Sandbox, eight_ids: list[str], manage: Manage, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_edit_runner, "ERRORS_SHOWN", 1)
    for run_id in ("run_0", "run_1"):
        sandbox.set_metadata(run_id, {"team": "green"})
    output = manage("edit_metadata", "run_0", "run_1", "run_2", "--rename", "team=group", *REASON_AND_ACTOR, "--json")
    assert [data["run"] for data in output.objects if data.get("status") == "conflict"] == ["run_0", "run_1"]
    assert "more" not in output.err


def test_canary_pauses_the_bulk_edit(sandbox: Sandbox, eight_ids: list[str], manage: Manage, alice: User) -> None:
    output = manage("edit_metadata", "--where", "metadata.team:blue", "--canary", "3", *SET_RED)
    bulk_edit = BulkEdit.objects.get()
    assert (output.code, bulk_edit.status, len(sandbox.posts())) == (0, "paused", 3)
    assert f"`manage.py edit_metadata --resume {bulk_edit.pk}` continues it." in output.out

    output = manage("edit_metadata", "--resume", str(bulk_edit.pk), "--actor", "alice", "--dry-run")
    assert (output.code, len(sandbox.posts())) == (1, 3)
    output = manage("edit_metadata", "--resume", str(bulk_edit.pk), "--actor", "alice", "--wait")
    assert (output.code, len(sandbox.posts())) == (0, 8)


def test_dry_run_refuses_apply_when_planned(
    sandbox: Sandbox, eight_ids: list[str], manage: Manage, alice: User
) -> None:
    selection = bulk_edits.by_search("metadata.team:blue")
    patch = BulkPatch(set={"team": "red"})
    bulk_edit = bulk_edits.plan(
        selection=selection, patch=patch, actor=alice, source=Edit.Source.ADMIN, reason="why", apply_when_planned=True
    )
    output = manage("edit_metadata", "--resume", str(bulk_edit.pk), "--actor", "alice", "--dry-run")
    assert (output.code, BulkEdit.objects.get().status, sandbox.posts()) == (1, "planning", [])
    assert "will be applied as soon as it is planned, so it cannot be a dry run. Nothing was done." in output.err


def test_command_waits_for_active_runs(sandbox: Sandbox, mirror_run: MakeRun, manage: Manage, alice: User) -> None:
    mirror_run(id="run_a", status="in_progress")
    output = manage("edit_metadata", "run_a", "--wait-for-active", "60", "--wait", "1", *SET_RED)
    assert (output.code, BulkEdit.objects.get().is_in_progress) == (1, True)
    assert "A worker continues it." in output.err

    sandbox.change_run("run_a", status="completed")
    Edit.objects.update(next_attempt_at=Edit.objects.get().created_at)
    assert manage("edit_metadata", "--resume", str(BulkEdit.objects.get().pk), "--actor", "alice").code == 0
    assert sandbox.metadata("run_a") == {"team": "red"}


def test_command_does_not_wait_for_held_connection(
    sandbox: Sandbox, eight_ids: list[str], connect: Connect, manage: Manage, alice: User
) -> None:
    sandbox.settings(api_key="another")
    output = manage("edit_metadata", "--where", "metadata.team:blue", *SET_RED)
    assert output.code == 1
    assert "The connection default is held." in output.err
    assert sandbox.posts() == []
    assert BulkEdit.objects.get().is_in_progress


def test_control_c_pauses_the_bulk_edit(
    sandbox: Sandbox, eight_ids: list[str], connect: Connect, manage: Manage, alice: User
) -> None:
    connect(CONCURRENCY=1)
    sandbox.settings(latency_ms=300)

    def interrupt() -> None:
        until(sandbox.posts)
        os.kill(os.getpid(), signal.SIGINT)

    with ThreadPoolExecutor(1) as pool:
        interruption = pool.submit(interrupt)
        output = manage("edit_metadata", "--where", "metadata.team:blue", *SET_RED)
    interruption.result()

    bulk_edit = BulkEdit.objects.get()
    sent = len(sandbox.posts())
    assert (output.code, bulk_edit.status, bulk_edit.detail) == (1, "paused", "alice paused it.")
    assert 1 <= sent < 8
    assert f"`manage.py edit_metadata --resume {bulk_edit.pk}` continues it." in output.err
    assert not bulk_edit.edits.filter(status="sending").exists()
    assert len(sandbox.posts()) == sent

    sandbox.settings(latency_ms=0)
    assert manage("edit_metadata", "--resume", str(bulk_edit.pk), "--actor", "alice").code == 0
    assert len(sandbox.posts()) == 8


def test_control_c_while_planning_keeps_plan(
    sandbox: Sandbox, eight_ids: list[str], manage: Manage, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    continue_planning = bulk_edits.continue_planning

    def interrupt_once(bulk_edit: BulkEdit, **options: object) -> BulkEdit:
        monkeypatch.setattr(bulk_edits, "continue_planning", continue_planning)
        os.kill(os.getpid(), signal.SIGINT)
        return continue_planning(bulk_edit, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(bulk_edits.planning, "BLOCK", 2)
    monkeypatch.setattr(bulk_edits, "continue_planning", interrupt_once)
    output = manage("edit_metadata", "--where", "metadata.team:blue", *SET_RED)
    bulk_edit = BulkEdit.objects.get()
    assert (output.code, bulk_edit.status, bulk_edit.planned) == (1, "planning", 2)
    assert output.err.startswith("Stopped; nothing was sent.")
    assert manage("edit_metadata", "--resume", str(bulk_edit.pk), "--actor", "alice").code == 0
    assert len(sandbox.posts()) == 8


def test_control_c_pauses_an_applied_plan(
    sandbox: Sandbox, eight_ids: list[str], manage: Manage, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    continue_planning = bulk_edits.continue_planning

    def interrupt_and_apply(bulk_edit: BulkEdit, **options: object) -> BulkEdit:
        os.kill(os.getpid(), signal.SIGINT)
        return bulk_edits.apply(bulk_edit=continue_planning(bulk_edit, until=float("inf")), actor=alice)

    monkeypatch.setattr(bulk_edits, "continue_planning", interrupt_and_apply)
    output = manage("edit_metadata", "--where", "metadata.team:blue", *SET_RED)
    bulk_edit = BulkEdit.objects.get()
    assert (output.code, bulk_edit.status, bulk_edit.detail) == (1, "paused", "alice paused it.")
    assert "nothing was sent" not in output.err
    assert sandbox.posts() == []


def test_planner_can_only_dry_run(sandbox: Sandbox, eight_ids: list[str], manage: Manage, alice: User) -> None:
    alice.user_permissions.remove(Permission.objects.get(codename="apply_bulkedit"))
    output = manage("edit_metadata", "--where", "metadata.team:blue", *SET_RED)
    assert (output.code, BulkEdit.objects.count()) == (1, 0)
    assert "may not apply bulk edits" in output.err
    assert manage("edit_metadata", "--where", "metadata.team:blue", "--dry-run", *SET_RED).code == 0
    assert manage("edit_metadata", "--resume", str(BulkEdit.objects.get().pk), "--actor", "alice").code == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--where", " ", *SET_RED], "This would select every run"),
        (["--where", "color:red", *SET_RED], "At character 1: there is no field 'color'"),
        (["--where", "model:\udcff", *SET_RED], "lone surrogate"),
        (["--where", "status:nothing", *SET_RED], "No run matches"),
        (["--view", "nothing", *SET_RED], "There is no view 'nothing'"),
        (["--view", "nothing", "--where", "status:failed", *SET_RED], "exactly one of"),
        (["--where", "model:gpt-4o", "run_0", *SET_RED], "exactly one of"),
        (["--where", "model:gpt-4o", "--set", "team=red", "--actor", "alice"], "A bulk edit needs a reason"),
        (["--where", "model:gpt-4o", "--set", "a=1", "--reason", "\udcff", "--actor", "alice"], "lone surrogate"),
        (["--where", "model:gpt-4o", *REASON_AND_ACTOR], "This changes nothing"),
        (["--where", "model:gpt-4o", "--rename", "team", *SET_RED], "'team' is not a pair. Use --rename OLD=NEW."),
        (["run_0", "--rename", "a=b", "--rename", "a=c", *REASON_AND_ACTOR], "The key 'a' is renamed twice."),
        (["run_0", "--canary", "0", *SET_RED], "A canary must have 1 to"),
        (["run_0", "--wait-for-active", "never", *SET_RED], "is not a number of seconds"),
        (["--ids-from", "nowhere.txt", *SET_RED], "nowhere.txt cannot be read"),
        (["--resume", "7", "--actor", "alice"], "There is no bulk edit 7."),
        (["--resume", "7", "--set", "a=1", "--actor", "alice"], "--set cannot be combined with --resume"),
        (["--resume", "7", "--canary", "3", "--actor", "alice"], "--canary cannot be combined with --resume"),
        (["--resume", "7", "--wait-for-active", "3", "--actor", "alice"], "--wait-for-active cannot be combined"),
        (SET_RED, "exactly one of"),
    ],
)
def test_invalid_arguments_plan_nothing(
    arguments: list[str], message: str, sandbox: Sandbox, eight_ids: list[str], manage: Manage, alice: User
) -> None:
    output: Output = manage("edit_metadata", *arguments)
    assert output.code == 1
    assert message in output.err
    assert not BulkEdit.objects.exists()
    assert not connection.in_atomic_block
    assert sandbox.posts() == []
