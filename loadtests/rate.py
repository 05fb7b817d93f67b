"""Tests the rate limiter: `python -m loadtests.rate [--edits 2000] [--requests-per-minute 1200]`.

Runs on its own PostgreSQL, which is restarted under load. Prints the counts. Exits with 1 if a count that must be 0 is
not.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from loadtests.processes import Postgres
from loadtests.storm import prepared, print_report


def main() -> int:
    parser = argparse.ArgumentParser(prog="rate", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--edits", type=int, default=2000)
    parser.add_argument("--requests-per-minute", type=int, default=1200)
    parser.add_argument(
        "--disruptions", type=int, default=4, help="kills of a worker and restarts of PostgreSQL, in turn"
    )
    options = parser.parse_args()

    folder = Path(tempfile.mkdtemp(prefix="runsadmin-rate-"))
    (folder / "postgres").mkdir()
    postgres = Postgres(folder / "postgres")
    try:
        with prepared(postgres.url, folder) as environment:
            from loadtests.rate_load import RateLoad

            report = RateLoad(
                environment,
                postgres,
                edits=options.edits,
                requests_per_minute=options.requests_per_minute,
                disruptions=options.disruptions,
            ).run()
    finally:
        postgres.stop()
    return print_report(report, folder)


if __name__ == "__main__":
    sys.exit(main())
