"""Faults of the POST. A write that may have happened is reconciled before a resend."""

import datetime as dt
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import Settings

from runsadmin.metadata import MetadataPatch
from runsadmin.models import ConnectionState, Edit, EditStatus, Run
from runsadmin.services import connections, edits, probes
from tests.conftest import Connect
from tests.faults.conftest import Scenario, at_step, seconds_until_next_attempt
from tests.sandbox_client import Sandbox

pytestmark = pytest.mark.django_db(transaction=True)


# --- A refusal: nothing was written

TEMPORARY_REFUSALS: dict[str, dict[str, Any]] = {
    "408": {"status": 408},
    "409": {"status": 409},
    "429": {"status": 429, "headers": {"Retry-After": "0"}},
}


@pytest.mark.parametrize("fault", TEMPORARY_REFUSALS.values(), ids=TEMPORARY_REFUSALS)
def test_temporary_refusal_is_sent_again(scenario: Scenario, fault: dict[str, Any]) -> None:
    scenario.sandbox.fault("status", method="POST", **fault)
    edit = scenario.push()
    assert (edit.status, edit.wait_reason, edit.attempts) == (EditStatus.PENDING, Edit.WaitReason.RETRY, 1)
    assert scenario.process_due(edit).status == EditStatus.APPLIED
    scenario.check(posts=2)


def test_edit_waits_if_post_cannot_connect(scenario: Scenario, connect: Connect) -> None:
    with at_step("intended", lambda: connect(URL="http://127.0.0.1:9/v1")):
        edit = scenario.push()
    assert (edit.status, edit.wait_reason, edit.attempts) == (EditStatus.PENDING, Edit.WaitReason.HELD, 0)
    connect(URL=scenario.sandbox.url)
    ConnectionState.objects.update(next_probe_at=timezone.now())
    probes.probe_held()
    assert scenario.process_due(edit).status == EditStatus.APPLIED
    scenario.check(posts=1)


@pytest.mark.parametrize(
    ("headers", "minimum", "maximum"),
    [
        pytest.param({"Retry-After": "40"}, 35, 41, id="seconds"),
        pytest.param({"retry-after-ms": "40000"}, 35, 41, id="milliseconds"),
        pytest.param({"Retry-After": "-40"}, 0, 2, id="negative"),
        pytest.param({"Retry-After": "86400"}, 290, 301, id="absurd"),
        pytest.param({"Retry-After": "soon"}, 0, 2, id="nonsense"),
        pytest.param({}, 0, 2, id="missing"),
    ],
)
def test_retry_after_is_capped(scenario: Scenario, headers: dict[str, str], minimum: float, maximum: float) -> None:
    scenario.sandbox.fault("status", method="POST", status=429, headers=headers)
    edit = scenario.push()
    assert edit.status == EditStatus.PENDING
    assert minimum <= seconds_until_next_attempt(edit) <= maximum
    ConnectionState.objects.update(not_before=None)
    assert scenario.process_due(edit).status == EditStatus.APPLIED
    scenario.check(posts=2)


def test_retry_after_can_be_a_date(scenario: Scenario) -> None:
    date = (timezone.now() + dt.timedelta(seconds=40)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    scenario.sandbox.fault("status", method="POST", status=429, headers={"Retry-After": date})
    assert 30 <= seconds_until_next_attempt(scenario.push()) <= 41


@pytest.mark.parametrize("status", [429, 503])
def test_429_and_503_slow_down_all_edits(scenario: Scenario, status: int) -> None:
    scenario.sandbox.fault("status", method="POST", status=status, headers={"Retry-After": "60"})
    scenario.push()
    before = len(scenario.sandbox.log())
    other = edits.record(
        run=Run.objects.get(upstream_id="run_other"),
        patch=MetadataPatch({"team": "red"}),
        actor=scenario.alice,
        source=Edit.Source.API,
    )
    assert edits.push(other).status == EditStatus.PENDING
    assert len(scenario.sandbox.log()) == before


def test_edit_waits_for_the_end_of_an_active_run(scenario: Scenario) -> None:
    scenario.sandbox.change_run(scenario.run.upstream_id, status="in_progress")
    edit = scenario.push()
    assert (edit.status, edit.wait_reason, edit.attempts) == (EditStatus.PENDING, Edit.WaitReason.ACTIVE_RUN, 0)
    assert "in_progress" in edit.detail
    edit = edits.push(edit)
    assert (edit.status, len(scenario.sandbox.posts())) == (EditStatus.PENDING, 1), "The run must only be fetched."
    scenario.sandbox.change_run(scenario.run.upstream_id, status="completed")
    assert scenario.process_due(edit).status == EditStatus.APPLIED
    scenario.check(posts=2)


@pytest.mark.parametrize("status", [400, 413, 422])
def test_other_4xx_is_never_sent_again(scenario: Scenario, status: int) -> None:
    scenario.sandbox.fault("status", method="POST", status=status, body={"error": {"message": "No, thank you."}})
    edit = scenario.push()
    assert (edit.status, edit.detail, edit.http_status) == (EditStatus.REJECTED, "No, thank you.", status)
    edits.process_due(until=float("inf"))
    scenario.check(posts=1, team="blue")


def test_edit_of_a_deleted_run_is_rejected(scenario: Scenario) -> None:
    scenario.writer.stop()
    with at_step("intended", lambda: scenario.sandbox.delete_run(scenario.run.upstream_id)):
        edit = scenario.push()
    assert edit.status == EditStatus.REJECTED
    assert scenario.mirror.missing_since is not None


def test_404_for_everything_holds_the_connection(scenario: Scenario) -> None:
    with at_step("intended", lambda: _return_404_for_all(scenario.sandbox)):
        edit = scenario.push()
    assert (edit.status, edit.wait_reason) == (EditStatus.PENDING, Edit.WaitReason.HELD)
    assert connections.held().get().hold == ConnectionState.Hold.NOT_FOUND


def _return_404_for_all(sandbox: Sandbox) -> None:
    sandbox.settings(not_found_for_all=True)


def test_401_for_a_write_holds_writing(scenario: Scenario) -> None:
    scenario.sandbox.fault("status", method="POST", status=401)
    edit = scenario.push()
    assert (edit.status, edit.wait_reason) == (EditStatus.PENDING, Edit.WaitReason.HELD)
    assert connections.held().get().hold == ConnectionState.Hold.WRITING
    ConnectionState.objects.update(next_probe_at=timezone.now())
    assert scenario.process_due(edit).status == EditStatus.APPLIED
    scenario.check(posts=2)


# --- No readable response: the write may have happened

LOST: dict[str, tuple[dict[str, Any], int]] = {
    # The fault, and the number of POSTs: one if the server kept the write, otherwise two.
    "500 before keeping": ({"kind": "status", "status": 500}, 2),
    "500 after keeping": ({"kind": "status", "status": 500, "keep": True}, 1),
    "502 with HTML": ({"kind": "html"}, 2),
    "503": ({"kind": "status", "status": 503, "headers": {"Retry-After": "0"}}, 2),
    "504 after keeping": ({"kind": "status", "status": 504, "keep": True}, 1),
    "response lost": ({"kind": "lose"}, 1),
    "cut before the response": ({"kind": "cut_before"}, 2),
    "cut during the response": ({"kind": "cut_halfway"}, 1),
    "truncated": ({"kind": "truncate"}, 1),
    "read timeout, not kept": ({"kind": "hang"}, 2),
    "read timeout, kept": ({"kind": "hang", "keep": True}, 1),
    "slow response": ({"kind": "slow_response", "seconds": 2}, 1),
    "slow drip": ({"kind": "drip", "seconds": 5}, 1),
    "not JSON, not kept": ({"kind": "garbage"}, 2),
    "not JSON, kept": ({"kind": "garbage", "keep": True}, 1),
    "JSON of another shape, kept": ({"kind": "wrong_shape", "keep": True}, 1),
    "another run": ({"kind": "wrong_shape", "body": {"id": "run_of_another_client"}}, 2),
    "huge response, kept": ({"kind": "huge", "bytes": 9 * 1024 * 1024, "keep": True}, 1),
}


@pytest.mark.parametrize(("fault", "posts"), LOST.values(), ids=LOST)
def test_lost_response_is_reconciled(scenario: Scenario, fault: dict[str, Any], posts: int) -> None:
    scenario.sandbox.fault(**fault, method="POST")
    edit = scenario.push()
    assert edit.status == EditStatus.UNKNOWN
    assert edit.sent_at is not None
    assert scenario.process_due(edit).status == EditStatus.APPLIED
    _assert_fetch_between_posts(scenario)
    scenario.check(posts=posts)


def _assert_fetch_between_posts(scenario: Scenario) -> None:
    methods = [call["method"] for call in scenario.sandbox.log() if scenario.run.upstream_id in call["path"]]
    assert "POST POST" not in " ".join(methods)


def test_late_write_is_not_sent_again(scenario: Scenario) -> None:
    scenario.writer.stop()  # A late write would overwrite the writer's pairs.
    scenario.sandbox.fault("handle_late", method="POST", seconds=0.5)
    edit = scenario.push()
    assert edit.status == EditStatus.UNKNOWN
    assert edits.reconcile(edit).status == EditStatus.UNKNOWN
    assert scenario.process_due(edit).status == EditStatus.APPLIED
    scenario.check(posts=1)


def test_edit_fails_if_no_write_ever_happens(scenario: Scenario, settings: Settings) -> None:
    settings.RUNSADMIN_MAX_ATTEMPTS = 2
    scenario.sandbox.fault("cut_before", method="POST", times=None)
    edit = scenario.process_due(scenario.push())
    assert (edit.status, edit.attempts) == (EditStatus.FAILED, 2)
    _assert_fetch_between_posts(scenario)
    scenario.check(posts=2, team="blue")


def test_lost_response_can_be_a_conflict(scenario: Scenario) -> None:
    scenario.sandbox.fault("lose", method="POST")
    edit = scenario.push()
    scenario.sandbox.add_pairs(scenario.run.upstream_id, {"team": "green"})
    edit = scenario.process_due(edit)
    assert edit.status == EditStatus.CONFLICT
    (conflict,) = edits.conflicts(edit)
    assert (conflict.base, conflict.theirs, conflict.ours) == ("blue", "green", "red")
    scenario.check(posts=1, team="green")


def test_unknown_edit_of_deleted_run_is_rejected(scenario: Scenario) -> None:
    scenario.writer.stop()
    scenario.sandbox.fault("lose", method="POST")
    edit = scenario.push()
    scenario.sandbox.delete_run(scenario.run.upstream_id)
    assert scenario.process_due(edit).status == EditStatus.REJECTED


# --- A readable response


def test_intended_metadata_is_applied(scenario: Scenario) -> None:
    assert scenario.push().status == EditStatus.APPLIED
    scenario.check(posts=1)


def test_edit_differs_if_server_merges(scenario: Scenario) -> None:
    scenario.sandbox.settings(modify="merge")
    edit = scenario.push(MetadataPatch(remove=frozenset({"team"})))
    assert edit.status == EditStatus.DIFFERS
    assert edit.intended is not None
    assert edit.after is not None
    assert ("team" in edit.intended, "team" in edit.after) == (False, True)
    scenario.check(posts=1, team="blue")


def test_edit_differs_if_server_rewrites(scenario: Scenario) -> None:
    scenario.writer.stop()
    scenario.sandbox.settings(modify="scramble")
    edit = scenario.push()
    assert edit.status == EditStatus.DIFFERS
    assert edit.after != edit.intended
    assert scenario.mirror.metadata == edit.after == scenario.sandbox.metadata(scenario.run.upstream_id)
