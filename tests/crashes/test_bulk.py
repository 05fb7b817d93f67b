"""Workers are killed during a small bulk edit. The large version is `python -m loadtests.bulk`."""

import time
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User

from loadtests.bulk_load import BulkLoad, outcomes_of
from loadtests.environment import Environment
from runsadmin.bulk_patch import BulkPatch
from runsadmin.models import BulkEdit, Edit, EditStatus
from runsadmin.models.edit import UNSETTLED
from runsadmin.services import bulk_edits
from tests.bulk import complete_plan
from tests.waiting import until

MAX_SECONDS = 3.0


def test_bulk_edit_survives_three_kills(environment: Environment) -> None:
    report = BulkLoad(environment, edits=500, per_thread=50, workers=1, fast=True, seed=1).run_with_kills(3)
    assert report.is_clean, f"\n{report}"
    assert report.outcomes == {EditStatus.APPLIED: 500}, f"\n{report}"
    assert report.edits_claimed_at_a_kill, f"\n{report}"


@pytest.fixture
def bulk_edit_in_flight(environment: Environment) -> BulkEdit:
    """A bulk edit with sixteen slow requests in flight."""
    environment.make_runs(400, per_thread=50)
    environment.sandbox.settings(latency_ms=300)
    selection = bulk_edits.by_search("metadata.team:blue")
    planned = bulk_edits.plan(
        selection=selection,
        patch=BulkPatch({"team": "red"}),
        actor=environment.alice,
        source=Edit.Source.ADMIN,
        reason="moved",
    )
    environment.sandbox.clear_log()
    bulk_edit = bulk_edits.apply(bulk_edit=complete_plan(planned), actor=environment.alice)
    environment.worker()
    until(lambda: sum(call["received_at"] is None for call in environment.sandbox.posts()) >= 16)
    return bulk_edit


@pytest.mark.parametrize("stop", [bulk_edits.pause, bulk_edits.cancel])
def test_stop_takes_effect_within_three_seconds(
    stop: Callable[..., BulkEdit], environment: Environment, alice: User, bulk_edit_in_flight: BulkEdit
) -> None:
    stopped_at = time.time()
    bulk_edit = stop(bulk_edit=bulk_edit_in_flight, actor=alice)
    time.sleep(MAX_SECONDS + 1)
    last = max(call["at"] for call in environment.sandbox.log())
    assert last - stopped_at <= MAX_SECONDS
    until(lambda: not bulk_edit.edits.filter(status__in=(EditStatus.SENDING, EditStatus.UNKNOWN)).exists())
    sent = len(environment.sandbox.posts())
    assert 16 <= sent < 400
    unsent = EditStatus.PENDING if stop is bulk_edits.pause else EditStatus.CANCELLED
    until(lambda: outcomes_of(bulk_edit) == {EditStatus.APPLIED: sent, unsent: 400 - sent})
    assert not bulk_edit.edits.filter(status__in=UNSETTLED).exclude(status=unsent).exists()
    upstream = [run["metadata"]["team"] for run in environment.sandbox.runs().values()]
    assert (upstream.count("red"), upstream.count("blue")) == (sent, 400 - sent)
