"""A process that stalls, or a write that arrives late, must not undo what others have done in the meantime."""

import pytest

from loadtests.crash_points import PUSHING, RECONCILING
from runsadmin.models import EditStatus
from runsadmin.services import edits
from tests.races.conftest import Race


@pytest.mark.parametrize("step", PUSHING)
def test_stalled_worker_sends_nothing(race: Race, step: str) -> None:
    edit = race.record("red")
    race.first.push(edit, until=step)
    race.first.suspend()
    race.first.resume()  # The suspended process continues only when it is woken.
    race.environment.expire_claims()
    race.process_due()
    assert race.outcomes() == [EditStatus.APPLIED]
    before = len(race.environment.events)
    race.first.wake()
    assert race.first.wait_until_done() == "done applied"
    assert race.posts("red") == 1
    assert [event for event in race.environment.events[before:] if event.kind == "write"] == []


@pytest.mark.parametrize("step", RECONCILING)
@pytest.mark.parametrize("fault", ["lose", "cut_before"])
def test_stalled_reconciliation_changes_nothing(race: Race, fault: str, step: str) -> None:
    race.environment.sandbox.fault(fault, method="POST")
    edit = race.record("red")
    race.record("green")
    race.first.push(edit)
    assert race.first.wait_until_done() == "done unknown"
    race.first.reconcile(edit, until=step)
    race.first.suspend()
    race.first.resume()  # The suspended process continues only when it is woken.
    race.environment.expire_claims()
    race.process_due()
    assert race.outcomes() == [EditStatus.APPLIED, EditStatus.APPLIED]
    race.first.wake()
    race.first.wait_until_done()
    assert race.outcomes() == [EditStatus.APPLIED, EditStatus.APPLIED]
    assert race.posts("green") == 1


@pytest.mark.parametrize("step", RECONCILING)
def test_write_during_reconcile_is_found(race: Race, step: str) -> None:
    race.environment.sandbox.fault("handle_late", seconds=0.4, method="POST")
    edit = race.record("red")
    race.first.push(edit)
    assert race.first.wait_until_done() == "done unknown"
    race.second.reconcile(edit, until=step)
    race.wait_for_posts(1)
    race.second.finish()
    race.process_due()
    assert race.outcomes() == [EditStatus.APPLIED]
    assert race.posts("red") == 1


def test_late_write_is_found(race: Race) -> None:
    race.environment.sandbox.fault("handle_late", seconds=0.4, method="POST")
    edit = race.record("red")
    race.first.push(edit)
    assert race.first.wait_until_done() == "done unknown"
    race.process_due()
    assert race.outcomes() == [EditStatus.APPLIED]
    assert race.posts("red") == 1


@pytest.mark.parametrize("step", ["claimed", "fetched"])
def test_lost_claim_never_sends_twice(race: Race, step: str) -> None:
    edit = race.record("red")
    race.first.push(edit, until=step)
    race.environment.expire_claims()
    edits.process_due(until=0)  # Releases the expired claim.
    race.second.push(edit, until="intended")
    assert race.first.finish() == "done sending"
    assert race.posts("red") == 0
    assert race.second.finish() in ("done applied", "done pending")  # Pending if the fetch became too old.
    race.process_due()
    assert race.outcomes() == [EditStatus.APPLIED]
    assert race.posts("red") == 1
