"""A bulk edit that is applied, followed, paused, cancelled, retried and undone."""

import re
import time

import pytest
from django.test import Client
from django_tasks_db.models import DBTaskResult
from pytest_django import Settings

from runsadmin import tasks
from runsadmin.models import BulkEdit, Run
from runsadmin.services import bulk_edits, connections, edits
from runsadmin.services.edits.claims import claim_due
from tests.admin.bulk_edit_pages import E, S, planned, runs_shown, text_of, typed, url
from tests.admin.conftest import press, run_on_list
from tests.bulk import push_until_settled
from tests.sandbox_client import Sandbox

pytestmark = pytest.mark.django_db(transaction=True)


def test_action_asks_before_it_sends(sandbox: Sandbox, team: list[Run], as_alice: Client) -> None:
    bulk_edit = planned(as_alice)

    asked = as_alice.post(url(bulk_edit), {"CHANGE_FORM-action": "apply", "_selected_action": bulk_edit.pk})
    assert f"Apply bulk edit {bulk_edit.pk}?" in asked.text
    assert "This changes the metadata of 5 runs upstream." in asked.text
    bulk_edit.refresh_from_db()
    assert bulk_edit.status == S.PLANNED

    listed = run_on_list(as_alice, "/admin/runsadmin/bulkedit/", "apply", [bulk_edit.pk])
    assert "5 runs upstream" in listed.text
    run_on_list(as_alice, "/admin/runsadmin/bulkedit/", "apply", [bulk_edit.pk], confirmed="1")
    bulk_edit.refresh_from_db()
    assert bulk_edit.status == S.QUEUED


def test_page_reports_done_only_at_the_end(sandbox: Sandbox, team: list[Run], as_alice: Client) -> None:
    bulk_edit = planned(as_alice)
    press(as_alice, bulk_edit, "apply")

    shown = text_of(as_alice, bulk_edit)
    assert "Waiting for a worker" in shown
    assert "0 of 5 runs done" in shown
    assert "still open 5 pending" in shown
    for early in ("applied ", "All edits are done"):
        assert early not in shown.split("Outcomes so far")[0].split("Waiting for a worker")[1]
    assert 'hx-trigger="every 1s"' in as_alice.get(url(bulk_edit)).text

    push_until_settled(bulk_edit)
    shown = text_of(as_alice, bulk_edit)
    assert "All edits are done" in shown
    assert "changed 5 applied" in shown
    assert runs_shown(as_alice, url(bulk_edit) + "?status=skipped") == ["run_5"]
    assert 'hx-trigger="every' not in as_alice.get(url(bulk_edit)).text
    for run in team[:5]:
        assert sandbox.metadata(run.upstream_id) == Run.objects.get(pk=run.pk).metadata
        assert sandbox.metadata(run.upstream_id)["team"] == "red"


def test_claimed_edits_are_being_sent(team: list[Run], as_alice: Client) -> None:
    bulk_edit = planned(as_alice)
    press(as_alice, bulk_edit, "apply")
    bulk_edits.advance_statuses()
    assert "Waiting for a worker" in text_of(as_alice, bulk_edit)

    claim_due("default", 2)
    bulk_edits.advance_statuses()

    shown = text_of(as_alice, bulk_edit)
    assert "Running Being sent" in shown
    assert "still open 3 pending, 2 sending" in shown


def test_pause_shows_edits_in_flight(team: list[Run], as_alice: Client) -> None:
    bulk_edit = planned(as_alice)
    press(as_alice, bulk_edit, "apply")
    claim_due("default", 2)
    press(as_alice, bulk_edit, "pause")

    assert "2 edits were already being sent" in text_of(as_alice, bulk_edit)
    assert 'hx-trigger="every 1s"' in as_alice.get(url(bulk_edit)).text


def test_pause_and_resume(sandbox: Sandbox, team: list[Run], as_alice: Client) -> None:
    bulk_edit = planned(as_alice)
    press(as_alice, bulk_edit, "apply")
    press(as_alice, bulk_edit, "pause")
    assert "Nothing more is sent until someone resumes it" in text_of(as_alice, bulk_edit)
    edit = bulk_edit.edits.filter(status=E.PENDING)[0]
    assert "its paused bulk edit to be resumed" in as_alice.get(f"/admin/runsadmin/edit/{edit.pk}/change/").text
    edits.process_due(until=time.monotonic() + 1)
    assert sandbox.posts() == []

    press(as_alice, bulk_edit, "resume")
    assert push_until_settled(bulk_edit).status == S.COMPLETED
    assert len(sandbox.posts()) == 5


def test_canary_pauses_with_a_reason(sandbox: Sandbox, team: list[Run], as_alice: Client) -> None:
    bulk_edit = planned(as_alice, typed(("team", "set", "red"), canary="2"))
    press(as_alice, bulk_edit, "apply")
    push_until_settled(bulk_edit)

    shown = text_of(as_alice, bulk_edit)
    assert "The first 2 were sent. Check them, then resume or cancel." in shown
    assert "2 of 5 runs done" in shown
    assert len(sandbox.posts()) == 2


def test_cancel_shows_what_was_done(sandbox: Sandbox, team: list[Run], as_alice: Client) -> None:
    bulk_edit = planned(as_alice, typed(("team", "set", "red"), canary="2"))
    press(as_alice, bulk_edit, "apply")
    push_until_settled(bulk_edit)
    press(as_alice, bulk_edit, "cancel")

    shown = text_of(as_alice, bulk_edit)
    assert "changed 2 applied" in shown
    assert "not changed 3 cancelled unsent" in shown
    assert "still open" not in shown
    assert sum(sandbox.metadata(run.upstream_id)["team"] == "red" for run in team) == 2


def test_failed_edits_are_retried(sandbox: Sandbox, team: list[Run], as_alice: Client, settings: Settings) -> None:
    settings.RUNSADMIN_MAX_ATTEMPTS = 1
    sandbox.fault("status", status=409, times=1, method="POST")
    bulk_edit = planned(as_alice)
    assert "Retry" not in text_of(as_alice, bulk_edit)
    press(as_alice, bulk_edit, "apply")
    push_until_settled(bulk_edit)
    assert "1 failed" in text_of(as_alice, bulk_edit)

    press(as_alice, bulk_edit, "retry")
    push_until_settled(bulk_edit)
    assert "changed 5 applied" in text_of(as_alice, bulk_edit)


def test_undo_needs_reason_and_is_a_plan(sandbox: Sandbox, team: list[Run], as_alice: Client) -> None:
    bulk_edit = planned(as_alice)
    press(as_alice, bulk_edit, "apply")
    push_until_settled(bulk_edit)
    assert "needs a reason" in press(as_alice, bulk_edit, "undo", follow=True).text

    response = press(as_alice, bulk_edit, "undo", {"reason": "a mistake"})
    undo = BulkEdit.objects.latest("pk")
    assert response.headers["Location"] == url(undo)
    shown = text_of(as_alice, undo)
    for text in ("Undoes bulk edit", "team red → blue", "Change 5 runs", "a mistake"):
        assert text in shown
    assert "undone by" in text_of(as_alice, bulk_edit)
    press(as_alice, undo, "apply")
    push_until_settled(undo)
    assert all(sandbox.metadata(run.upstream_id)["team"] == "blue" for run in team)
    assert "Undo…" in text_of(as_alice, undo)


def test_undo_is_offered_only_after_the_end(sandbox: Sandbox, team: list[Run], as_alice: Client) -> None:
    bulk_edit = planned(as_alice, typed(("team", "set", "red"), canary="2"))
    press(as_alice, bulk_edit, "apply")
    push_until_settled(bulk_edit)

    assert "Undo…" not in text_of(as_alice, bulk_edit)
    refused = press(as_alice, bulk_edit, "undo", {"reason": "a mistake"}, follow=True).text
    assert "Only a bulk edit that has ended can be undone; this one is paused." in refused
    press(as_alice, bulk_edit, "cancel")
    assert "Undo…" in text_of(as_alice, bulk_edit)


def test_held_connection_is_shown(team: list[Run], as_alice: Client) -> None:
    bulk_edit = planned(as_alice)
    press(as_alice, bulk_edit, "apply")
    connections.hold("default", connections.Hold.CREDENTIALS, "401")

    assert "The connection default is held, so nothing is sent" in text_of(as_alice, bulk_edit)


def test_impossible_action_is_refused(team: list[Run], as_alice: Client) -> None:
    bulk_edit = planned(as_alice)
    for name in ("pause", "resume", "retry", "undo"):
        assert re.search("Only a|nothing to undo", press(as_alice, bulk_edit, name, {"reason": "x"}, follow=True).text)
    bulk_edit.refresh_from_db()
    assert bulk_edit.status == S.PLANNED


def test_apply_enqueues_the_push(team: list[Run], as_alice: Client) -> None:
    press(as_alice, planned(as_alice), "apply")

    assert DBTaskResult.objects.filter(task_path=tasks.push_edits.module_path).exists()
