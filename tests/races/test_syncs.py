"""A sync reads the runs of a thread while one of them is edited, in every order."""

import pytest

from loadtests import log_checks
from loadtests.crash_points import PUSHING, SYNCING
from tests.races.conftest import Race
from tests.waiting import until


@pytest.mark.parametrize("sync_step", SYNCING)
@pytest.mark.parametrize("push_step", PUSHING)
@pytest.mark.parametrize("first", ["push", "sync"])
@pytest.mark.parametrize("ends", ["push", "sync"])
def test_sync_and_an_edit_cross(race: Race, first: str, push_step: str, sync_step: str, ends: str) -> None:
    """Both reach a step, one after the other, and then end, one after the other."""
    edit, sync = race.record("red"), race.sync()
    if first == "push":
        race.one.push(edit, until=push_step)
        race.other.sync(sync, until=sync_step)
    else:
        race.other.sync(sync, until=sync_step)
        race.one.push(edit, until=push_step)
    for process in (race.one, race.other) if ends == "push" else (race.other, race.one):
        process.end()
    race.process_due()
    assert race.outcomes() == ["applied"]
    assert race.mirror.metadata["team"] == "red"


@pytest.mark.parametrize("fault", ["delay", "slow_response"])
@pytest.mark.parametrize("push_step", PUSHING)
def test_slow_page_undoes_no_edit(race: Race, fault: str, push_step: str) -> None:
    """The server delays the page: read before the edit and sent after it, or requested before and read after it."""
    edit, sync = race.record("red"), race.sync()
    race.environment.sandbox.fault(fault, seconds=0.25, method="GET", path="/runs$")
    race.one.push(edit, until=push_step)
    race.other.sync(sync)
    until(lambda: any(call["path"].endswith("/runs") for call in race.environment.sandbox.log()))
    race.one.end()
    race.other.wait_until_done()
    race.process_due()
    assert race.outcomes() == ["applied"]
    assert race.mirror.metadata["team"] == "red"


def test_late_page_undoes_no_edit(race: Race) -> None:
    edit, sync = race.record("red"), race.sync()
    race.other.sync(sync, until="page received")
    race.one.push(edit)
    assert race.one.wait_until_done() == "done applied"
    assert race.mirror.metadata["team"] == "red"
    race.other.end()
    assert race.mirror.metadata["team"] == "red"
    assert len(log_checks.writes(race.environment.events)) == 1
