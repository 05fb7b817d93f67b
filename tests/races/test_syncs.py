"""A sync reads the runs of a thread while one of them is edited, with the steps in every order."""

import pytest

from loadtests import log_checks
from loadtests.crash_points import PUSHING, SYNCING
from tests.races.conftest import Race
from tests.waiting import until


@pytest.mark.parametrize("sync_step", SYNCING)
@pytest.mark.parametrize("push_step", PUSHING)
@pytest.mark.parametrize("starts_first", ["push", "sync"])
@pytest.mark.parametrize("ends_first", ["push", "sync"])
def test_sync_and_edit_overlap(race: Race, starts_first: str, push_step: str, sync_step: str, ends_first: str) -> None:
    """Both processes reach a step, one after the other, and then end, one after the other."""
    edit, sync = race.record("red"), race.sync()
    if starts_first == "push":
        race.first.push(edit, until=push_step)
        race.second.sync(sync, until=sync_step)
    else:
        race.second.sync(sync, until=sync_step)
        race.first.push(edit, until=push_step)
    for process in (race.first, race.second) if ends_first == "push" else (race.second, race.first):
        process.finish()
    race.process_due()
    assert race.outcomes() == ["applied"]
    assert race.mirror.metadata["team"] == "red"


@pytest.mark.parametrize("fault", ["delay", "slow_response"])
@pytest.mark.parametrize("push_step", PUSHING)
def test_slow_page_undoes_no_edit(race: Race, fault: str, push_step: str) -> None:
    """The server handles the request for the list late, or handles it at once and responds late."""
    edit, sync = race.record("red"), race.sync()
    race.environment.sandbox.fault(fault, seconds=0.25, method="GET", path="/runs$")
    race.first.push(edit, until=push_step)
    race.second.sync(sync)
    until(lambda: any(call["path"].endswith("/runs") for call in race.environment.sandbox.log()))
    race.first.finish()
    race.second.wait_until_done()
    race.process_due()
    assert race.outcomes() == ["applied"]
    assert race.mirror.metadata["team"] == "red"


def test_late_page_undoes_no_edit(race: Race) -> None:
    edit, sync = race.record("red"), race.sync()
    race.second.sync(sync, until="page received")
    race.first.push(edit)
    assert race.first.wait_until_done() == "done applied"
    assert race.mirror.metadata["team"] == "red"
    race.second.finish()
    assert race.mirror.metadata["team"] == "red"
    assert len(log_checks.writes(race.environment.events)) == 1
