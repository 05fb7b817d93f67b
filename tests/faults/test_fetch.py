"""Faults of the fetch, before anything is sent."""

import datetime as dt
import time
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import Settings

from runsadmin.models import ConnectionState, Edit, EditStatus
from runsadmin.services import connections, probes
from runsadmin.services.edits import deciding
from tests.conftest import Connect
from tests.faults.conftest import Scenario, at_step

pytestmark = pytest.mark.django_db(transaction=True)


TEMPORARY: dict[str, dict[str, Any]] = {
    "cut before the response": {"kind": "cut_before"},
    "cut during the response": {"kind": "cut_halfway"},
    "truncated": {"kind": "truncate"},
    "read timeout": {"kind": "hang"},
    "slow drip": {"kind": "drip", "seconds": 5},
    "408": {"kind": "status", "status": 408},
    "409": {"kind": "status", "status": 409},
    "429": {"kind": "status", "status": 429, "headers": {"Retry-After": "0"}},
    "500": {"kind": "status", "status": 500},
    "502 with HTML": {"kind": "html"},
    "503": {"kind": "status", "status": 503, "headers": {"Retry-After": "0"}},
    "504": {"kind": "status", "status": 504},
    "not JSON": {"kind": "garbage"},
    "JSON of another shape": {"kind": "wrong_shape"},
    "another run": {"kind": "wrong_shape", "body": {"id": "run_of_another_client", "metadata": {}}},
    "huge response": {"kind": "huge", "bytes": 9 * 1024 * 1024},
}


@pytest.mark.parametrize("fault", TEMPORARY.values(), ids=TEMPORARY)
def test_edit_is_pending_after_a_failed_fetch(scenario: Scenario, fault: dict[str, Any]) -> None:
    scenario.sandbox.fault(**fault, method="GET", path=scenario.run.upstream_id)
    edit = scenario.push()
    assert (edit.status, edit.wait_reason, edit.attempts) == (EditStatus.PENDING, Edit.WaitReason.RETRY, 1)
    assert (edit.before, edit.intended, edit.sent_at) == (None, None, None)
    assert scenario.sandbox.posts() == []

    assert scenario.process_due(edit).status == EditStatus.APPLIED
    scenario.check(posts=1)


@pytest.mark.parametrize("fault", TEMPORARY.values(), ids=TEMPORARY)
def test_edit_fails_after_repeated_failures(scenario: Scenario, settings: Settings, fault: dict[str, Any]) -> None:
    settings.RUNSADMIN_MAX_ATTEMPTS = 2
    scenario.sandbox.fault(**fault, method="GET", path=scenario.run.upstream_id, times=2)
    edit = scenario.process_due(scenario.push())
    assert (edit.status, edit.attempts) == (EditStatus.FAILED, 2)
    assert edit.detail.startswith("Tried 2 times.")
    scenario.check(posts=0, team="blue")


def test_edit_waits_for_an_unreachable_server(scenario: Scenario, connect: Connect) -> None:
    connect(URL="http://127.0.0.1:9/v1")
    edit = scenario.push()
    assert (edit.status, edit.wait_reason, edit.attempts) == (EditStatus.PENDING, Edit.WaitReason.HELD, 0)
    assert connections.held().get().hold == ConnectionState.Hold.UNREACHABLE
    connect(URL=scenario.sandbox.url)
    ConnectionState.objects.update(next_probe_at=timezone.now())
    probes.probe_held()
    assert scenario.process_due(edit).status == EditStatus.APPLIED
    scenario.check(posts=1)


def test_edit_of_a_deleted_run_is_rejected(scenario: Scenario) -> None:
    scenario.writer.stop()
    scenario.sandbox.delete_run(scenario.run.upstream_id)
    edit = scenario.push()
    assert (edit.status, edit.http_status) == (EditStatus.REJECTED, 404)
    assert scenario.mirror.missing_since is not None
    assert scenario.sandbox.posts() == []
    assert not connections.held()


def test_edit_of_a_deleted_thread_is_rejected(scenario: Scenario) -> None:
    scenario.writer.stop()
    scenario.sandbox.delete_thread(scenario.run.thread.upstream_id)
    edit = scenario.push()
    assert edit.status == EditStatus.REJECTED
    assert scenario.mirror.missing_since is not None
    assert not connections.held()


def test_404_twice_means_retired(scenario: Scenario) -> None:
    scenario.sandbox.settings(not_found_for_all=True)
    edit = scenario.push()
    assert (edit.status, edit.wait_reason) == (EditStatus.PENDING, Edit.WaitReason.HELD)
    assert connections.held().get().hold == ConnectionState.Hold.NOT_FOUND
    assert scenario.mirror.missing_since is None

    ConnectionState.objects.update(next_probe_at=timezone.now())
    probes.probe_held()
    assert connections.held().get().hold == ConnectionState.Hold.RETIRED

    scenario.sandbox.settings(not_found_for_all=False)
    ConnectionState.objects.update(next_probe_at=timezone.now())
    probes.probe_held()
    assert scenario.process_due(edit).status == EditStatus.APPLIED
    scenario.check(posts=1)


def test_refused_credentials_fail_nothing(scenario: Scenario) -> None:
    scenario.sandbox.fault("status", status=401, times=None)
    edit = scenario.push()
    assert (edit.status, edit.wait_reason, edit.http_status) == (EditStatus.PENDING, Edit.WaitReason.HELD, 401)
    assert connections.held().get().hold == ConnectionState.Hold.CREDENTIALS

    ConnectionState.objects.update(next_probe_at=timezone.now())
    probes.probe_held()
    assert connections.held(), "The connection must stay held."

    scenario.sandbox.clear_faults()
    ConnectionState.objects.update(next_probe_at=timezone.now())
    probes.probe_held()
    assert scenario.process_due(edit).status == EditStatus.APPLIED
    scenario.check(posts=1)


def test_other_4xx_is_rejected(scenario: Scenario) -> None:
    scenario.sandbox.fault("status", method="GET", status=422, body={"detail": "Not a run id."})
    edit = scenario.push()
    assert (edit.status, edit.detail) == (EditStatus.REJECTED, "Not a run id.")
    scenario.check(posts=0, team="blue")


def test_stale_fetch_is_repeated(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deciding, "MAX_FETCH_AGE", dt.timedelta(seconds=0.2))
    with at_step("intended", lambda: time.sleep(0.3)):
        edit = scenario.push()
    assert (edit.status, edit.attempts, edit.intended) == (EditStatus.PENDING, 0, None)
    assert scenario.sandbox.posts() == []
    edit = scenario.process_due(edit)
    assert edit.status == EditStatus.APPLIED
    assert edit.race_window is not None
    assert edit.race_window < dt.timedelta(seconds=0.2)
    scenario.check(posts=1)
