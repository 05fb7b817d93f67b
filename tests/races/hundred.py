"""Runs each race a hundred times: `python -m tests.races.hundred [--database sqlite|postgres] [--rounds 100]`.

Prints how often each race was run, and how often its outcome was wrong. The exit code is 1 if any outcome was wrong.
"""

import argparse
import os
import sys
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, field

import pytest

from tests.postgres import server


@dataclass
class Table:
    """Counts the outcomes. A race is a test function, and the orders of its steps are the parameters."""

    rounds: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        race = report.nodeid.rpartition("::")[2].partition("[")[0]
        self.rounds[race] += report.when == "call"
        self.wrong[race] += report.failed

    def __str__(self) -> str:
        races = sorted(self.rounds)
        lines = [f"{self.rounds[race]:7} {self.wrong[race]:7}  {_sentence(race)}" for race in races]
        total = f"{self.rounds.total():7} {self.wrong.total():7}  in all"
        return "\n".join([" rounds   wrong", *lines, total])


def _sentence(race: str) -> str:
    return race.removeprefix("test_").replace("_", " ")


def main() -> int:
    parser = argparse.ArgumentParser(prog="hundred", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--processes", type=int, default=4, help="more than processors, because races mostly wait")
    options = parser.parse_args()

    os.environ["RACE_ROUNDS"] = str(options.rounds)
    table = Table()
    with server() if options.database == "postgres" else nullcontext() as url:
        os.environ.pop("DATABASE_URL", None)
        if url is not None:
            os.environ["DATABASE_URL"] = url
        result = pytest.main(["tests/races", "-q", "--no-header", f"-n{options.processes}"], plugins=[table])
    print(f"{options.database}\n{table}")
    return int(result != pytest.ExitCode.OK or table.wrong.total() > 0)


if __name__ == "__main__":
    sys.exit(main())
