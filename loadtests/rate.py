"""Tests the rate limiter: `python -m loadtests.rate [--edits 2000] [--requests-per-minute 1200]`.

Runs on its own PostgreSQL, which is restarted under load. Prints the counts. Exits with 1 if a count that must be 0 is
not.
"""

import sys

from loadtests.command import new_folder, parser, prepared, print_report
from loadtests.processes import Postgres


def main() -> int:
    arguments = parser("rate", __doc__, database=False)
    arguments.add_argument("--edits", type=int, default=2000)
    arguments.add_argument("--requests-per-minute", type=int, default=1200)
    arguments.add_argument(
        "--disruptions", type=int, default=4, help="how many times to kill a worker or restart PostgreSQL, in turn"
    )
    options = arguments.parse_args()

    folder = new_folder("rate")
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
