"""Processes are killed at random moments. The large version is `python -m loadtests.storm`."""

from loadtests.environment import Environment
from loadtests.storm_load import StormLoad


def test_edits_survive_eight_kills(environment: Environment) -> None:
    report = StormLoad(environment, edits=100, kills=8).run()
    assert report.is_clean, f"\n{report}"
    assert report.edits_recorded >= 100
    assert report.kills_while_sending >= 4, f"\n{report}"
