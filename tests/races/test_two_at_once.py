"""Two processes work on the same edit or the same run."""

import pytest

from loadtests.crash_points import PUSHING
from runsadmin.models import EditStatus
from tests.races.conftest import Race

STEPS_BEFORE_STORING = [step for step in PUSHING if step != "stored"]


def test_processes_keep_the_order_of_edits(race: Race) -> None:
    first, second = race.record("first"), race.record("second")
    race.second.push(second)
    race.first.push(first)
    race.first.wait_until_done()
    race.second.wait_until_done()
    race.process_due()
    assert race.outcomes() == [EditStatus.APPLIED, EditStatus.APPLIED]
    assert (race.posts("first"), race.posts("second")) == (1, 1)
    assert race.environment.sandbox.metadata(race.run.upstream_id)["team"] == "second"


def test_later_edit_is_not_sent_first(race: Race) -> None:
    first, second = race.record("first"), race.record("second")
    race.second.push(second)
    assert race.second.wait_until_done() == "done pending"
    race.first.push(first)
    assert race.first.wait_until_done() == "done applied"
    race.second.push(second)
    assert race.second.wait_until_done() == "done applied"


@pytest.mark.parametrize("step", STEPS_BEFORE_STORING)
def test_later_edit_waits_at_every_step(race: Race, step: str) -> None:
    first, second = race.record("first"), race.record("second")
    race.first.push(first, until=step)
    race.second.push(second)
    assert race.second.wait_until_done() == "done pending"
    assert race.first.finish() == "done applied"
    race.second.push(second)
    assert race.second.wait_until_done() == "done applied"


@pytest.mark.parametrize("step", STEPS_BEFORE_STORING)
def test_claimed_edit_is_pushed_by_one_process(race: Race, step: str) -> None:
    edit = race.record("red")
    race.first.push(edit, until=step)
    race.second.push(edit)
    assert race.second.wait_until_done() == "done sending"
    assert race.first.finish() == "done applied"
    assert race.posts("red") == 1


def test_many_threads_send_each_edit_once(race: Race) -> None:
    recorded = [race.record(f"value-{run.upstream_id}", run) for run in race.runs]
    race.first.push_in_many_threads(*recorded)
    race.second.push_in_many_threads(*recorded)
    race.first.wait_until_done()
    race.second.wait_until_done()
    race.process_due()
    assert set(race.outcomes()) == {EditStatus.APPLIED}
    assert [race.posts(f"value-{run.upstream_id}") for run in race.runs] == [1, 1, 1]


def test_many_threads_send_edits_of_a_run_once(race: Race) -> None:
    recorded = [race.record(value) for value in ("first", "second", "third")]
    race.first.push_in_many_threads(*recorded)
    race.second.push_in_many_threads(*recorded)
    race.first.wait_until_done()
    race.second.wait_until_done()
    race.process_due()
    assert set(race.outcomes()) == {EditStatus.APPLIED}
    assert [race.posts(value) for value in ("first", "second", "third")] == [1, 1, 1]
    assert race.environment.sandbox.metadata(race.run.upstream_id)["team"] == "third"


@pytest.mark.parametrize("step", STEPS_BEFORE_STORING)
def test_sending_edit_cannot_be_cancelled(race: Race, step: str) -> None:
    edit = race.record("red")
    race.first.push(edit, until=step)
    race.second.cancel(edit)
    assert race.second.wait_until_done() == "done illegal"
    assert race.first.finish() == "done applied"
    assert race.posts("red") == 1


def test_either_cancel_or_push_succeeds(race: Race) -> None:
    edit = race.record("red")
    race.second.cancel(edit)
    race.first.push(edit)
    pushed, cancelled = race.first.wait_until_done(), race.second.wait_until_done()
    assert (pushed, cancelled, race.posts("red")) in [
        ("done applied", "done illegal", 1),
        ("done cancelled", "done cancelled", 0),
    ]
