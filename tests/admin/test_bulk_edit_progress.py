"""The page of a bulk edit while it is applied, paused, cancelled, retried and undone."""

import datetime as dt
import re
import time

import pytest
from django.test import Client
from django.utils import timezone
from django_tasks_db.models import DBTaskResult
from pytest_django import Settings

from runsadmin import tasks
from runsadmin.models import BulkEdit, BulkEditStatus, EditStatus, Run
from runsadmin.services import bulk_edits, connections, edits
from runsadmin.services.edits.claims import claim_due
from tests.admin.bulk_edit_pages import bulk_edit_url, make_plan, page_text, patch_form, shown_run_ids
from tests.admin.conftest import run_action, run_list_action
from tests.bulk import push_until_settled
from tests.sandbox_client import Sandbox

pytestmark = pytest.mark.django_db(transaction=True)


def test_action_asks_before_it_sends(sandbox: Sandbox, six_runs: list[Run], as_alice: Client) -> None:
    bulk_edit = make_plan(as_alice)

    confirmation = as_alice.post(
        bulk_edit_url(bulk_edit), {"CHANGE_FORM-action": "apply", "_selected_action": bulk_edit.pk}
    )
    assert f"Apply bulk edit {bulk_edit.pk}?" in confirmation.text
    assert "This changes the metadata of 5 runs upstream." in confirmation.text
    bulk_edit.refresh_from_db()
    assert bulk_edit.status == BulkEditStatus.PLANNED

    confirmation = run_list_action(as_alice, "/admin/runsadmin/bulkedit/", "apply", [bulk_edit.pk])
    assert "5 runs upstream" in confirmation.text
    run_list_action(as_alice, "/admin/runsadmin/bulkedit/", "apply", [bulk_edit.pk], confirmed="1")
    bulk_edit.refresh_from_db()
    assert bulk_edit.status == BulkEditStatus.QUEUED


def test_page_reports_done_only_at_the_end(sandbox: Sandbox, six_runs: list[Run], as_alice: Client) -> None:
    bulk_edit = make_plan(as_alice)
    run_action(as_alice, bulk_edit, "apply")

    shown = page_text(as_alice, bulk_edit)
    assert "Waiting for a worker" in shown
    assert "0 of 5 runs done" in shown
    assert "still open 5 pending" in shown
    progress = shown.partition("Waiting for a worker")[2].partition("Outcomes so far")[0]
    assert "applied " not in progress
    assert "All edits are done" not in progress
    assert 'hx-trigger="every 1s"' in as_alice.get(bulk_edit_url(bulk_edit)).text

    since = timezone.now() - dt.timedelta(minutes=1)
    BulkEdit.objects.update(status=BulkEditStatus.RUNNING, running_since=since)
    edits.push(bulk_edit.edits.filter(status=EditStatus.PENDING)[0])
    assert "per second" in page_text(as_alice, bulk_edit)
    for edit in bulk_edit.edits.filter(status=EditStatus.PENDING):
        edits.push(edit)
    BulkEdit.objects.update(status=BulkEditStatus.RUNNING, finished_at=None, running_since=since)
    shown = page_text(as_alice, bulk_edit)
    assert "5 of 5 runs done" in shown
    assert "per second" not in shown

    push_until_settled(bulk_edit)
    shown = page_text(as_alice, bulk_edit)
    assert "All edits are done" in shown
    assert "changed 5 applied" in shown
    assert shown_run_ids(as_alice, bulk_edit_url(bulk_edit) + "?status=skipped") == ["run_5"]
    assert 'hx-trigger="every' not in as_alice.get(bulk_edit_url(bulk_edit)).text
    for run in six_runs[:5]:
        assert sandbox.metadata(run.upstream_id) == Run.objects.get(pk=run.pk).metadata
        assert sandbox.metadata(run.upstream_id)["team"] == "red"


def test_claimed_edits_are_being_sent(six_runs: list[Run], as_alice: Client) -> None:
    bulk_edit = make_plan(as_alice)
    run_action(as_alice, bulk_edit, "apply")
    bulk_edits.advance_statuses()
    assert "Waiting for a worker" in page_text(as_alice, bulk_edit)

    claim_due("default", 2)
    bulk_edits.advance_statuses()

    shown = page_text(as_alice, bulk_edit)
    assert "Running Being sent" in shown
    assert "still open 3 pending, 2 sending" in shown


def test_pause_shows_edits_in_flight(six_runs: list[Run], as_alice: Client) -> None:
    bulk_edit = make_plan(as_alice)
    run_action(as_alice, bulk_edit, "apply")
    claim_due("default", 2)
    run_action(as_alice, bulk_edit, "pause")

    assert "2 edits are still in progress" in page_text(as_alice, bulk_edit)
    assert 'hx-trigger="every 1s"' in as_alice.get(bulk_edit_url(bulk_edit)).text


def test_pause_and_resume(sandbox: Sandbox, six_runs: list[Run], as_alice: Client) -> None:
    bulk_edit = make_plan(as_alice)
    run_action(as_alice, bulk_edit, "apply")
    run_action(as_alice, bulk_edit, "pause")
    assert "Nothing more is sent until a user resumes the bulk edit" in page_text(as_alice, bulk_edit)
    edit = bulk_edit.edits.filter(status=EditStatus.PENDING)[0]
    assert "its paused bulk edit to be resumed" in as_alice.get(f"/admin/runsadmin/edit/{edit.pk}/change/").text
    edits.process_due(until=time.monotonic() + 1)
    assert sandbox.posts() == []

    run_action(as_alice, bulk_edit, "resume")
    assert push_until_settled(bulk_edit).status == BulkEditStatus.COMPLETED
    assert len(sandbox.posts()) == 5


def test_canary_pauses_with_a_reason(sandbox: Sandbox, six_runs: list[Run], as_alice: Client) -> None:
    bulk_edit = make_plan(as_alice, patch_form(("team", "set", "red"), canary="2"))
    run_action(as_alice, bulk_edit, "apply")
    push_until_settled(bulk_edit)

    shown = page_text(as_alice, bulk_edit)
    assert "The first 2 edits were sent. Check the result, then resume or cancel." in shown
    assert "2 of 5 runs done" in shown
    assert len(sandbox.posts()) == 2


def test_cancel_shows_what_was_done(sandbox: Sandbox, six_runs: list[Run], as_alice: Client) -> None:
    bulk_edit = make_plan(as_alice, patch_form(("team", "set", "red"), canary="2"))
    run_action(as_alice, bulk_edit, "apply")
    push_until_settled(bulk_edit)
    run_action(as_alice, bulk_edit, "cancel")

    shown = page_text(as_alice, bulk_edit)
    assert "changed 2 applied" in shown
    assert "not changed 3 cancelled before sending" in shown
    assert "still open" not in shown
    assert sum(sandbox.metadata(run.upstream_id)["team"] == "red" for run in six_runs) == 2


def test_failed_edits_are_retried(sandbox: Sandbox, six_runs: list[Run], as_alice: Client, settings: Settings) -> None:
    settings.RUNSADMIN_MAX_ATTEMPTS = 1
    sandbox.fault("status", status=409, times=1, method="POST")
    bulk_edit = make_plan(as_alice)
    assert "Retry" not in page_text(as_alice, bulk_edit)
    run_action(as_alice, bulk_edit, "apply")
    push_until_settled(bulk_edit)
    assert "1 failed" in page_text(as_alice, bulk_edit)

    run_action(as_alice, bulk_edit, "retry")
    push_until_settled(bulk_edit)
    assert "changed 5 applied" in page_text(as_alice, bulk_edit)


def test_undo_needs_reason_and_is_a_plan(sandbox: Sandbox, six_runs: list[Run], as_alice: Client) -> None:
    bulk_edit = make_plan(as_alice)
    run_action(as_alice, bulk_edit, "apply")
    push_until_settled(bulk_edit)
    assert "needs a reason" in run_action(as_alice, bulk_edit, "undo", follow=True).text

    response = run_action(as_alice, bulk_edit, "undo", {"reason": "a mistake"})
    undo = BulkEdit.objects.latest("pk")
    assert response.headers["Location"] == bulk_edit_url(undo)
    shown = page_text(as_alice, undo)
    for text in ("Undoes bulk edit", "team red → blue", "Change 5 runs", "a mistake"):
        assert text in shown
    assert "undone by" in page_text(as_alice, bulk_edit)
    run_action(as_alice, undo, "apply")
    push_until_settled(undo)
    assert all(sandbox.metadata(run.upstream_id)["team"] == "blue" for run in six_runs)
    assert "Undo…" in page_text(as_alice, undo)


def test_undo_is_offered_only_after_the_end(sandbox: Sandbox, six_runs: list[Run], as_alice: Client) -> None:
    bulk_edit = make_plan(as_alice, patch_form(("team", "set", "red"), canary="2"))
    run_action(as_alice, bulk_edit, "apply")
    push_until_settled(bulk_edit)

    assert "Undo…" not in page_text(as_alice, bulk_edit)
    refused = run_action(as_alice, bulk_edit, "undo", {"reason": "a mistake"}, follow=True).text
    assert "Only a bulk edit that has ended can be undone; this one is paused." in refused
    run_action(as_alice, bulk_edit, "cancel")
    assert "Undo…" in page_text(as_alice, bulk_edit)


def test_held_connection_is_shown(six_runs: list[Run], as_alice: Client) -> None:
    bulk_edit = make_plan(as_alice)
    run_action(as_alice, bulk_edit, "apply")
    connections.hold("default", connections.Hold.CREDENTIALS, "401")

    assert "The connection default is held, so nothing is sent" in page_text(as_alice, bulk_edit)


def test_impossible_action_is_refused(six_runs: list[Run], as_alice: Client) -> None:
    bulk_edit = make_plan(as_alice)
    for name in ("pause", "resume", "retry", "undo"):
        assert re.search(
            "Only a|nothing to undo", run_action(as_alice, bulk_edit, name, {"reason": "x"}, follow=True).text
        )
    bulk_edit.refresh_from_db()
    assert bulk_edit.status == BulkEditStatus.PLANNED


def test_apply_enqueues_the_push(six_runs: list[Run], as_alice: Client) -> None:
    run_action(as_alice, make_plan(as_alice), "apply")

    assert DBTaskResult.objects.filter(task_path=tasks.push_edits.module_path).exists()
