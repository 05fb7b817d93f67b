"""Two workers, or a person and a worker, at the same edit or the same run."""

import pytest

from loadtests.crash_points import PUSHING
from runsadmin.models import Edit
from tests.races.conftest import Race

S = Edit.Status
BEFORE_THE_END = [step for step in PUSHING if step != "stored"]


def test_two_processes_push_edits_of_one_run_one_after_the_other_in_the_order_of_their_recording(race: Race) -> None:
    first, second = race.record("first"), race.record("second")
    race.other.push(second)
    race.one.push(first)
    race.one.wait_until_done()
    race.other.wait_until_done()
    race.process_due()
    assert race.outcomes() == [S.APPLIED, S.APPLIED]
    assert (race.posts("first"), race.posts("second")) == (1, 1)
    assert race.environment.sandbox.metadata(race.run.upstream_id)["team"] == "second"


@pytest.mark.parametrize("step", BEFORE_THE_END)
def test_an_edit_waits_while_another_of_its_run_is_at_any_step(race: Race, step: str) -> None:
    first, second = race.record("first"), race.record("second")
    race.one.push(first, until=step)
    race.other.push(second)
    assert race.other.wait_until_done() == "done pending"
    assert race.one.end() == "done applied"
    race.other.push(second)
    assert race.other.wait_until_done() == "done applied"


@pytest.mark.parametrize("step", BEFORE_THE_END)
def test_an_edit_that_somebody_is_at_is_nobody_elses(race: Race, step: str) -> None:
    edit = race.record("red")
    race.one.push(edit, until=step)
    race.other.push(edit)
    assert race.other.wait_until_done() == "done sending"
    assert race.one.end() == "done applied"
    assert race.posts("red") == 1


def test_many_threads_of_two_processes_claim_the_same_edits_and_each_is_sent_once(race: Race) -> None:
    recorded = [race.record(f"of-{run.upstream_id}", run) for run in race.runs]
    race.one.hammer(*recorded)
    race.other.hammer(*recorded)
    race.one.wait_until_done()
    race.other.wait_until_done()
    race.process_due()
    assert set(race.outcomes()) == {S.APPLIED}
    assert [race.posts(f"of-{run.upstream_id}") for run in race.runs] == [1, 1, 1]


def test_many_threads_of_two_processes_claim_edits_of_one_run_and_each_is_sent_once(race: Race) -> None:
    recorded = [race.record(value) for value in ("first", "second", "third")]
    race.one.hammer(*recorded)
    race.other.hammer(*recorded)
    race.one.wait_until_done()
    race.other.wait_until_done()
    race.process_due()
    assert set(race.outcomes()) == {S.APPLIED}
    assert [race.posts(value) for value in ("first", "second", "third")] == [1, 1, 1]
    assert race.environment.sandbox.metadata(race.run.upstream_id)["team"] == "third"


@pytest.mark.parametrize("step", BEFORE_THE_END)
def test_an_edit_that_is_being_sent_cannot_be_taken_back(race: Race, step: str) -> None:
    edit = race.record("red")
    race.one.push(edit, until=step)
    race.other.cancel(edit)
    assert race.other.wait_until_done() == "done illegal"
    assert race.one.end() == "done applied"
    assert race.posts("red") == 1


def test_of_a_cancel_and_a_push_at_the_same_moment_one_wins_and_tells_the_truth(race: Race) -> None:
    edit = race.record("red")
    race.other.cancel(edit)
    race.one.push(edit)
    pushed, cancelled = race.one.wait_until_done(), race.other.wait_until_done()
    assert (pushed, cancelled, race.posts("red")) in [
        ("done applied", "done illegal", 1),
        ("done cancelled", "done cancelled", 0),
    ]
