"""A process stands still, or a write lands late: what others have settled meanwhile stays as it is."""

import pytest

from loadtests.crash_points import PUSHING, RECONCILING
from runsadmin.models import Edit
from runsadmin.services import edits
from tests.races.conftest import Race

S = Edit.Status


@pytest.mark.parametrize("step", PUSHING)
def test_a_worker_that_stood_still_until_its_claim_had_run_out_sends_nothing_any_more(race: Race, step: str) -> None:
    edit = race.record("red")
    race.one.push(edit, until=step)
    race.one.stop()
    race.one.go_on()
    race.environment.expire_claims()
    race.process_due()
    assert race.outcomes() == [S.APPLIED]
    before = len(race.environment.events)
    race.one.wake()
    assert race.one.wait_until_done() == "done applied"
    assert race.posts("red") == 1
    assert [event for event in race.environment.events[before:] if event.what == "write"] == []


@pytest.mark.parametrize("step", RECONCILING)
@pytest.mark.parametrize("fault", ["lose", "cut_before"])
def test_a_worker_that_stood_still_while_it_looked_after_a_lost_answer_changes_nothing_any_more(
    race: Race, fault: str, step: str
) -> None:
    race.environment.sandbox.fault(fault, method="POST")
    edit, later = race.record("red"), race.record("green")
    race.one.push(edit)
    assert race.one.wait_until_done() == "done unknown"
    race.one.reconcile(edit, until=step)
    race.one.stop()
    race.one.go_on()
    race.environment.expire_claims()
    race.process_due()
    assert race.outcomes() == [S.APPLIED, S.APPLIED]
    race.one.wake()
    race.one.wait_until_done()
    later.refresh_from_db()
    assert race.outcomes() == [S.APPLIED, S.APPLIED]
    assert race.posts("green") == 1


@pytest.mark.parametrize("step", RECONCILING)
def test_a_lost_write_that_lands_after_its_reconciling_began_is_not_sent_again(race: Race, step: str) -> None:
    race.environment.sandbox.fault("land_late", seconds=0.4, method="POST")
    edit = race.record("red")
    race.one.push(edit)
    assert race.one.wait_until_done() == "done unknown"
    race.other.reconcile(edit, until=step)
    race.wait_for_posts(1)
    race.other.end()
    race.process_due()
    assert race.outcomes() == [S.APPLIED]
    assert race.posts("red") == 1


def test_a_lost_write_that_lands_while_nobody_looks_is_found(race: Race) -> None:
    race.environment.sandbox.fault("land_late", seconds=0.4, method="POST")
    edit = race.record("red")
    race.one.push(edit)
    assert race.one.wait_until_done() == "done unknown"
    race.process_due()
    assert race.outcomes() == [S.APPLIED]
    assert race.posts("red") == 1


@pytest.mark.parametrize("step", ["claimed", "fetched"])
def test_a_worker_that_lost_its_claim_does_not_send_beside_the_one_that_has_it(race: Race, step: str) -> None:
    edit = race.record("red")
    race.one.push(edit, until=step)
    race.environment.expire_claims()
    edits.process_due(until=0)  # No more than the claims that ran out.
    race.other.push(edit, until="intended")
    assert race.one.end() == "done sending"
    assert race.posts("red") == 0
    assert race.other.end() in ("done applied", "done pending")  # Pending where that took longer than a look lasts.
    race.process_due()
    assert race.outcomes() == [S.APPLIED]
    assert race.posts("red") == 1
