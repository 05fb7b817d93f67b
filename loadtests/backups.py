"""Backups during a bulk edit, each restored: `python -m loadtests.backups --edits 8000 [--database sqlite|postgres]`.

Another client changes values after the backups. Prints the counts. Exits with 1 if a count that must be 0 is not.
"""

import argparse
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

from loadtests.storm import prepared, print_report
from tests.postgres import server


def main() -> int:
    parser = argparse.ArgumentParser(prog="backups", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--edits", type=int, default=8000)
    parser.add_argument("--latency", type=int, default=100, help="of the sandbox, in ms")
    parser.add_argument("--backups", type=int, default=20)
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    folder = Path(tempfile.mkdtemp(prefix="runsadmin-backups-"))
    is_sqlite = options.database == "sqlite"
    database = nullcontext(f"sqlite:///{folder}/db.sqlite3") if is_sqlite else server()
    with database as url, prepared(url, folder) as environment:
        from loadtests.backups_load import BackupsLoad

        workers = 1 if is_sqlite else 2
        report = BackupsLoad(
            environment,
            edits=options.edits,
            count=options.backups,
            workers=workers,
            latency=options.latency,
            seed=options.seed,
        ).run()
    print(f"{'database':44} {options.database}, workers: {workers}")
    return print_report(report, folder)


if __name__ == "__main__":
    sys.exit(main())
