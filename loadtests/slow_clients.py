"""Slow clients: `python -m loadtests.slow_clients --clients 200 --seconds 60 [--database sqlite|postgres]`.

With `--proxy nginx|caddy|haproxy`, all clients use the site through a proxy.
Prints the longest times of other requests meanwhile. Exits with 1 if a request fails or takes too long.
"""

import argparse
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

from loadtests.storm import prepared
from tests.postgres import server
from tests.proxies import PACKAGES


def main() -> int:
    parser = argparse.ArgumentParser(prog="slow_clients", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--proxy", choices=sorted(PACKAGES))
    options = parser.parse_args()

    folder = Path(tempfile.mkdtemp(prefix="runsadmin-slow-clients-"))
    database = nullcontext(f"sqlite:///{folder}/db.sqlite3") if options.database == "sqlite" else server()
    with database as url, prepared(url, folder) as environment:
        from loadtests import slow_clients_load

        report = slow_clients_load.run(
            environment, clients=options.clients, seconds=options.seconds, proxy=options.proxy
        )
    print(f"{'database':44} {options.database}\n{report}")
    return 0 if report.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
