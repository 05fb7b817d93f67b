"""Tests isolation: `python -m loadtests.hostile [--database sqlite|postgres] [--workers 2]`.

Syncs 49 good threads and, among them, one thread for each kind of bad item, while a single edit and a bulk edit are
sent. Prints what happened. Exits with 1 if a good thread is missing, a bad one has no reason, an edit had to wait, or
the workers log more than 100 lines a minute.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from loadtests.processes import Postgres
from loadtests.storm import prepared


def main() -> int:
    parser = argparse.ArgumentParser(prog="hostile", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()

    folder = Path(tempfile.mkdtemp(prefix="runsadmin-hostile-"))
    postgres = None
    url = f"sqlite:///{folder}/db.sqlite3"
    if options.database == "postgres":
        (folder / "postgres").mkdir()
        postgres = Postgres(folder / "postgres")
        url = postgres.url
    try:
        with prepared(url, folder) as environment:
            from loadtests.hostile_load import TIMEOUTS, HostileLoad

            environment.overrides = TIMEOUTS
            report = HostileLoad(environment, slow=True, workers=options.workers).run()
    finally:
        if postgres is not None:
            postgres.stop()
    print(report)
    return 0 if report.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
