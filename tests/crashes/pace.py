"""How well the limiter holds its rate: `python -m tests.crashes.pace [--edits 2000] [--requests-per-minute 1200]`.

On a PostgreSQL of its own, which is restarted under load. Prints the counts. The exit code is 1 when one that must be 0
is not.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.crashes.processes import Postgres
from tests.crashes.storm import prepared, told


def main() -> int:
    parser = argparse.ArgumentParser(prog="pace", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--edits", type=int, default=2000)
    parser.add_argument("--requests-per-minute", type=int, default=1200)
    parser.add_argument("--troubles", type=int, default=4, help="in turns: a worker killed, PostgreSQL restarted")
    options = parser.parse_args()

    folder = Path(tempfile.mkdtemp(prefix="runsadmin-pace-"))
    (folder / "postgres").mkdir()
    postgres = Postgres(folder / "postgres")
    try:
        with prepared(postgres.url, folder) as scene:
            from tests.crashes.rush import Rush

            report = Rush(
                scene,
                postgres,
                edits=options.edits,
                requests_per_minute=options.requests_per_minute,
                troubles=options.troubles,
            ).hurry()
    finally:
        postgres.stop()
    return told(report, folder)


if __name__ == "__main__":
    sys.exit(main())
