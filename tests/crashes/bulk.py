"""A bulk edit under kills, and its undo: `python -m tests.crashes.bulk --edits 50000 --kills 12 [--database postgres]`.

With `--faults` nobody is killed, but the upstream refuses, fails and loses answers. Prints the counts. The exit code is
1 when one that must be 0 is not.
"""

import argparse
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

from tests.crashes.storm import prepared, told
from tests.postgres import server


def main() -> int:
    parser = argparse.ArgumentParser(prog="bulk", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--edits", type=int, default=50_000)
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--per-thread", type=int, default=100, help="runs of a thread")
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--workers", type=int, help="one on SQLite, two on PostgreSQL, unless told otherwise")
    parser.add_argument("--faults", action="store_true", help="an upstream in trouble instead of kills")
    parser.add_argument("--seed", type=int, help="the same kills again, as far as kills can be repeated")
    options = parser.parse_args()

    folder = Path(tempfile.mkdtemp(prefix="runsadmin-bulk-"))
    on_sqlite = options.database == "sqlite"
    workers = options.workers or (1 if on_sqlite else 2)
    database = nullcontext(f"sqlite:///{folder}/db.sqlite3") if on_sqlite else server()
    with database as url, prepared(url, folder) as scene:
        from tests.crashes.flood import Flood
        from tests.crashes.scene import AS_SHIPPED

        scene.patience = AS_SHIPPED
        flood = Flood(
            scene, edits=options.edits, per_thread=options.per_thread, workers=workers, hurried=False, seed=options.seed
        )
        report = flood.under_faults() if options.faults else flood.under_kills(options.kills)
    print(f"{'database':44} {options.database}, {workers} at work")
    return told(report, folder)


if __name__ == "__main__":
    sys.exit(main())
