"""A server with bad items in some of its threads. The large version is `python -m loadtests.hostile`."""

from loadtests.environment import Environment
from loadtests.hostile_load import HostileLoad


def test_bad_threads_stop_no_other_work(environment: Environment) -> None:
    report = HostileLoad(environment).run()
    assert report.is_clean, f"\n{report}"
