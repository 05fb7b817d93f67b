"""A few slow clients for a few seconds. The large version is `python -m loadtests.slow_clients`."""

from loadtests import slow_clients_load
from loadtests.environment import Environment


def test_slow_clients_delay_no_one(environment: Environment) -> None:
    report = slow_clients_load.run(environment, clients=40, seconds=3)
    assert report.is_clean, f"\n{report}"
    assert min(report.requests.values()) >= 5, f"\n{report}"
