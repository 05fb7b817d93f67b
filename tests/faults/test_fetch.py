"""Faults of the fetch. Nothing was sent."""

import datetime as dt
import time
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import Settings

from runsadmin.models import ConnectionState, Edit
from runsadmin.services import connections, probes
from runsadmin.services.edits import deciding
from tests.conftest import Connect
from tests.faults.conftest import Scene, at_step

pytestmark = pytest.mark.django_db(transaction=True)

E = Edit.Status

PASSING: dict[str, dict[str, Any]] = {
    "cut before the response": {"kind": "cut_before"},
    "cut during the response": {"kind": "cut_while"},
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
    "JSON of another shape": {"kind": "other_shape"},
    "another run": {"kind": "other_shape", "body": {"id": "run_of_another_client", "metadata": {}}},
    "huge response": {"kind": "huge", "bytes": 9 * 1024 * 1024},
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_failed_fetch_is_pending(scene: Scene, fault: dict[str, Any]) -> None:
    scene.sandbox.fault(**fault, method="GET", path=scene.run.upstream_id)
    edit = scene.push()
    assert (edit.status, edit.wait_reason, edit.attempts) == (E.PENDING, Edit.WaitReason.RETRY, 1)
    assert (edit.before, edit.intended, edit.sent_at) == (None, None, None)
    assert scene.sandbox.posts() == []

    assert scene.process_due(edit).status == E.APPLIED
    scene.check(posts=1)


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_repeated_failed_fetch_fails(scene: Scene, settings: Settings, fault: dict[str, Any]) -> None:
    settings.RUNSADMIN_MAX_ATTEMPTS = 2
    scene.sandbox.fault(**fault, method="GET", path=scene.run.upstream_id, times=2)
    edit = scene.process_due(scene.push())
    assert (edit.status, edit.attempts) == (E.FAILED, 2)
    assert edit.detail.startswith("Tried 2 times.")
    scene.check(posts=0, team="blue")


def test_unreachable_server_is_pending(scene: Scene, connect: Connect) -> None:
    connect(URL="http://127.0.0.1:9/v1")
    edit = scene.push()
    assert (edit.status, edit.wait_reason, edit.attempts) == (E.PENDING, Edit.WaitReason.HELD, 0)
    assert connections.held().get().hold == ConnectionState.Hold.UNREACHABLE
    connect(URL=scene.sandbox.url)
    ConnectionState.objects.update(next_probe_at=timezone.now())
    probes.probe_held()
    assert scene.process_due(edit).status == E.APPLIED
    scene.check(posts=1)


def test_404_for_the_run_is_rejected(scene: Scene) -> None:
    scene.writer.stop()
    scene.sandbox.delete_run(scene.run.upstream_id)
    edit = scene.push()
    assert (edit.status, edit.http_status) == (E.REJECTED, 404)
    assert scene.mirror.missing_since is not None
    assert scene.sandbox.posts() == []
    assert not connections.held()


def test_404_for_the_thread_is_rejected(scene: Scene) -> None:
    scene.writer.stop()
    scene.sandbox.delete_thread(scene.run.thread.upstream_id)
    edit = scene.push()
    assert edit.status == E.REJECTED
    assert scene.mirror.missing_since is not None
    assert not connections.held()


def test_404_twice_means_retired(scene: Scene) -> None:
    scene.sandbox.settings(not_found_for_all=True)
    edit = scene.push()
    assert (edit.status, edit.wait_reason) == (E.PENDING, Edit.WaitReason.HELD)
    assert connections.held().get().hold == ConnectionState.Hold.NOT_FOUND
    assert scene.mirror.missing_since is None

    ConnectionState.objects.update(next_probe_at=timezone.now())
    probes.probe_held()
    assert connections.held().get().hold == ConnectionState.Hold.RETIRED

    scene.sandbox.settings(not_found_for_all=False)
    ConnectionState.objects.update(next_probe_at=timezone.now())
    probes.probe_held()
    assert scene.process_due(edit).status == E.APPLIED
    scene.check(posts=1)


def test_refused_credentials_fail_nothing(
    scene: Scene,
) -> None:
    scene.sandbox.fault("status", status=401, times=None)
    edit = scene.push()
    assert (edit.status, edit.wait_reason, edit.http_status) == (E.PENDING, Edit.WaitReason.HELD, 401)
    assert connections.held().get().hold == ConnectionState.Hold.CREDENTIALS

    ConnectionState.objects.update(next_probe_at=timezone.now())
    probes.probe_held()
    assert connections.held(), "The connection stays held."

    scene.sandbox.clear_faults()
    ConnectionState.objects.update(next_probe_at=timezone.now())
    probes.probe_held()
    assert scene.process_due(edit).status == E.APPLIED
    scene.check(posts=1)


def test_other_4xx_is_rejected(scene: Scene) -> None:
    scene.sandbox.fault("status", method="GET", status=422, body={"detail": "Not a run id."})
    edit = scene.push()
    assert (edit.status, edit.detail) == (E.REJECTED, "Not a run id.")
    scene.check(posts=0, team="blue")


def test_stale_fetch_is_repeated(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deciding, "MAX_FETCH_AGE", dt.timedelta(seconds=0.2))
    with at_step("intended", lambda: time.sleep(0.3)):
        edit = scene.push()
    assert (edit.status, edit.attempts, edit.intended) == (E.PENDING, 0, None)
    assert scene.sandbox.posts() == []
    edit = scene.process_due(edit)
    assert edit.status == E.APPLIED
    assert edit.race_window is not None
    assert edit.race_window < dt.timedelta(seconds=0.2)
    scene.check(posts=1)
