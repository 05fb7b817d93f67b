"""A bulk edit with killed workers, and its undo: `python -m loadtests.bulk --edits 50000 --kills 12`.

With `--faults` nothing is killed; instead, upstream rejects requests, fails and loses responses. Prints the counts.
Exits with 1 if a count that must be 0 is not.
"""

import argparse
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

from loadtests.storm import prepared, print_report
from tests.postgres import server


def main() -> int:
    parser = argparse.ArgumentParser(prog="bulk", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--edits", type=int, default=50_000)
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--per-thread", type=int, default=100, help="runs per thread")
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--workers", type=int, help="default: one on SQLite, two on PostgreSQL")
    parser.add_argument("--faults", action="store_true", help="a faulty upstream instead of kills")
    parser.add_argument("--seed", type=int, help="repeat the same kills, as far as timing allows")
    options = parser.parse_args()

    folder = Path(tempfile.mkdtemp(prefix="runsadmin-bulk-"))
    on_sqlite = options.database == "sqlite"
    workers = options.workers or (1 if on_sqlite else 2)
    database = nullcontext(f"sqlite:///{folder}/db.sqlite3") if on_sqlite else server()
    with database as url, prepared(url, folder) as environment:
        from loadtests.bulk_load import BulkLoad
        from loadtests.environment import DEFAULT_TIMEOUTS

        environment.overrides = DEFAULT_TIMEOUTS
        load = BulkLoad(
            environment,
            edits=options.edits,
            per_thread=options.per_thread,
            workers=workers,
            fast=False,
            seed=options.seed,
        )
        report = load.run_with_faults() if options.faults else load.run_with_kills(options.kills)
    print(f"{'database':44} {options.database}, workers: {workers}")
    return print_report(report, folder)


if __name__ == "__main__":
    sys.exit(main())
