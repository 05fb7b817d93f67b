"""A process stalls, or a write lands late: what others have settled meanwhile stays."""

import pytest

from loadtests.crash_points import PUSHING, RECONCILING
from runsadmin.models import EditStatus
from runsadmin.services import edits
from tests.races.conftest import Race


@pytest.mark.parametrize("step", PUSHING)
def test_stalled_worker_sends_nothing(race: Race, step: str) -> None:
    edit = race.record("red")
    race.one.push(edit, until=step)
    race.one.suspend()
    race.one.resume()
    race.environment.expire_claims()
    race.process_due()
    assert race.outcomes() == [EditStatus.APPLIED]
    before = len(race.environment.events)
    race.one.wake()
    assert race.one.wait_until_done() == "done applied"
    assert race.posts("red") == 1
    assert [event for event in race.environment.events[before:] if event.kind == "write"] == []


@pytest.mark.parametrize("step", RECONCILING)
@pytest.mark.parametrize("fault", ["lose", "cut_before"])
def test_stalled_reconcile_changes_nothing(race: Race, fault: str, step: str) -> None:
    race.environment.sandbox.fault(fault, method="POST")
    edit, later = race.record("red"), race.record("green")
    race.one.push(edit)
    assert race.one.wait_until_done() == "done unknown"
    race.one.reconcile(edit, until=step)
    race.one.suspend()
    race.one.resume()
    race.environment.expire_claims()
    race.process_due()
    assert race.outcomes() == [EditStatus.APPLIED, EditStatus.APPLIED]
    race.one.wake()
    race.one.wait_until_done()
    later.refresh_from_db()
    assert race.outcomes() == [EditStatus.APPLIED, EditStatus.APPLIED]
    assert race.posts("green") == 1


@pytest.mark.parametrize("step", RECONCILING)
def test_write_during_reconcile_is_found(race: Race, step: str) -> None:
    race.environment.sandbox.fault("handle_late", seconds=0.4, method="POST")
    edit = race.record("red")
    race.one.push(edit)
    assert race.one.wait_until_done() == "done unknown"
    race.other.reconcile(edit, until=step)
    race.wait_for_posts(1)
    race.other.end()
    race.process_due()
    assert race.outcomes() == [EditStatus.APPLIED]
    assert race.posts("red") == 1


def test_late_write_is_found(race: Race) -> None:
    race.environment.sandbox.fault("handle_late", seconds=0.4, method="POST")
    edit = race.record("red")
    race.one.push(edit)
    assert race.one.wait_until_done() == "done unknown"
    race.process_due()
    assert race.outcomes() == [EditStatus.APPLIED]
    assert race.posts("red") == 1


@pytest.mark.parametrize("step", ["claimed", "fetched"])
def test_lost_claim_never_sends_twice(race: Race, step: str) -> None:
    edit = race.record("red")
    race.one.push(edit, until=step)
    race.environment.expire_claims()
    edits.process_due(until=0)  # Only the expired claims.
    race.other.push(edit, until="intended")
    assert race.one.end() == "done sending"
    assert race.posts("red") == 0
    assert race.other.end() in ("done applied", "done pending")  # Pending if the fetch got too old.
    race.process_due()
    assert race.outcomes() == [EditStatus.APPLIED]
    assert race.posts("red") == 1
