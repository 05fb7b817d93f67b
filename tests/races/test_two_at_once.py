"""Two workers, or a person and a worker, at the same edit or the same run."""

import pytest

from loadtests.crash_points import PUSHING
from runsadmin.models import EditStatus
from tests.races.conftest import Race

BEFORE_THE_END = [step for step in PUSHING if step != "stored"]


def test_processes_keep_the_order_of_a_run(race: Race) -> None:
    first, second = race.record("first"), race.record("second")
    race.other.push(second)
    race.one.push(first)
    race.one.wait_until_done()
    race.other.wait_until_done()
    race.process_due()
    assert race.outcomes() == [EditStatus.APPLIED, EditStatus.APPLIED]
    assert (race.posts("first"), race.posts("second")) == (1, 1)
    assert race.environment.sandbox.metadata(race.run.upstream_id)["team"] == "second"


@pytest.mark.parametrize("step", BEFORE_THE_END)
def test_edit_waits_at_every_step(race: Race, step: str) -> None:
    first, second = race.record("first"), race.record("second")
    race.one.push(first, until=step)
    race.other.push(second)
    assert race.other.wait_until_done() == "done pending"
    assert race.one.end() == "done applied"
    race.other.push(second)
    assert race.other.wait_until_done() == "done applied"


@pytest.mark.parametrize("step", BEFORE_THE_END)
def test_claimed_edit_has_one_process(race: Race, step: str) -> None:
    edit = race.record("red")
    race.one.push(edit, until=step)
    race.other.push(edit)
    assert race.other.wait_until_done() == "done sending"
    assert race.one.end() == "done applied"
    assert race.posts("red") == 1


def test_many_claims_send_each_edit_once(race: Race) -> None:
    recorded = [race.record(f"of-{run.upstream_id}", run) for run in race.runs]
    race.one.hammer(*recorded)
    race.other.hammer(*recorded)
    race.one.wait_until_done()
    race.other.wait_until_done()
    race.process_due()
    assert set(race.outcomes()) == {EditStatus.APPLIED}
    assert [race.posts(f"of-{run.upstream_id}") for run in race.runs] == [1, 1, 1]


def test_many_claims_of_a_run_send_once(race: Race) -> None:
    recorded = [race.record(value) for value in ("first", "second", "third")]
    race.one.hammer(*recorded)
    race.other.hammer(*recorded)
    race.one.wait_until_done()
    race.other.wait_until_done()
    race.process_due()
    assert set(race.outcomes()) == {EditStatus.APPLIED}
    assert [race.posts(value) for value in ("first", "second", "third")] == [1, 1, 1]
    assert race.environment.sandbox.metadata(race.run.upstream_id)["team"] == "third"


@pytest.mark.parametrize("step", BEFORE_THE_END)
def test_sending_edit_cannot_be_cancelled(race: Race, step: str) -> None:
    edit = race.record("red")
    race.one.push(edit, until=step)
    race.other.cancel(edit)
    assert race.other.wait_until_done() == "done illegal"
    assert race.one.end() == "done applied"
    assert race.posts("red") == 1


def test_cancel_and_push_have_one_winner(race: Race) -> None:
    edit = race.record("red")
    race.other.cancel(edit)
    race.one.push(edit)
    pushed, cancelled = race.one.wait_until_done(), race.other.wait_until_done()
    assert (pushed, cancelled, race.posts("red")) in [
        ("done applied", "done illegal", 1),
        ("done cancelled", "done cancelled", 0),
    ]
