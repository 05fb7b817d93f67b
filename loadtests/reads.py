"""REST reads during a bulk edit: `python -m loadtests.reads --edits 20000 [--database sqlite|postgres]`.

Prints how long reads take before and during the bulk edit. Exits with 1 if a count that must be 0 is not.
"""

import argparse
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

from loadtests.storm import prepared, print_report
from tests.postgres import server


def main() -> int:
    parser = argparse.ArgumentParser(prog="reads", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--edits", type=int, default=20_000)
    parser.add_argument("--reads", type=int, default=1000, help="how many reads to time before the bulk edit")
    parser.add_argument("--pause", type=float, default=0.05, help="seconds between two reads")
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    options = parser.parse_args()

    folder = Path(tempfile.mkdtemp(prefix="runsadmin-reads-"))
    database = nullcontext(f"sqlite:///{folder}/db.sqlite3") if options.database == "sqlite" else server()
    with database as url, prepared(url, folder) as environment:
        from loadtests.environment import DEFAULT_TIMEOUTS
        from loadtests.reads_load import ReadsLoad

        environment.overrides = {**DEFAULT_TIMEOUTS, "RUNSADMIN_API_REQUESTS_PER_MINUTE": "60000"}
        load = ReadsLoad(environment, edits=options.edits, per_thread=100, workers=1, fast=False)
        report = load.run_with_reads(options.reads, pause=options.pause)
    print(f"{'database':44} {options.database}")
    return print_report(report, folder)


if __name__ == "__main__":
    sys.exit(main())
