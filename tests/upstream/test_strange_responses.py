"""Responses that a database cannot store are reported like others, and are not retried endlessly."""

import time

import pytest

from runsadmin.models import EditStatus, Sync
from runsadmin.services import syncs
from tests.faults.conftest import Scenario, scenario, short_timeouts  # noqa: F401 - fixtures

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("status", "outcome"),
    [(422, EditStatus.REJECTED), (404, EditStatus.REJECTED), (401, EditStatus.PENDING), (429, EditStatus.PENDING)],
)
def test_u0000_is_replaced(
    scenario: Scenario,  # noqa: F811
    method: str,
    status: int,
    outcome: str,
) -> None:
    body = {"error": {"message": "No\0pe"}}
    scenario.sandbox.fault("status", status=status, body=body, method=method, path=scenario.run.upstream_id)
    edit = scenario.push()
    assert edit.status == outcome
    assert "No\ufffdpe" in edit.detail


@pytest.mark.parametrize("run_id", ["run_\0", "r" * 500], ids=["U+0000", "too long"])
def test_unstorable_id_does_not_stop_a_sync(
    scenario: Scenario,  # noqa: F811
    run_id: str,
) -> None:
    run = scenario.sandbox.run(scenario.run.upstream_id)
    page = {"object": "list", "data": [run, {**run, "id": run_id}], "has_more": False}
    scenario.sandbox.fault("status", status=200, body=page, method="GET", path="/runs$")
    sync = syncs.start(connection="default", kind=Sync.Kind.FULL, actor=scenario.alice, thread=scenario.run.thread)
    sync = syncs.run(sync, until=time.monotonic() + 30)
    assert (sync.status, sync.runs_seen) == (Sync.Status.COMPLETED_WITH_ERRORS, 1)
    assert "U+0000" in sync.errors.get().message
