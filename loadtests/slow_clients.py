"""Slow clients: `python -m loadtests.slow_clients --clients 200 --seconds 60 [--database sqlite|postgres]`.

With `--proxy nginx|caddy|haproxy`, all clients use the site through a proxy.
Prints the longest times of other requests meanwhile. Exits with 1 if a request fails or takes too long.
"""

import sys

from loadtests.command import new_folder, parser, prepared, print_report
from tests.proxies import PACKAGES


def main() -> int:
    arguments = parser("slow_clients", __doc__)
    arguments.add_argument("--clients", type=int, default=200)
    arguments.add_argument("--seconds", type=float, default=60)
    arguments.add_argument("--proxy", choices=sorted(PACKAGES))
    options = arguments.parse_args()

    folder = new_folder("slow-clients")
    with prepared(options.database, folder) as environment:
        from loadtests import slow_clients_load

        report = slow_clients_load.run(
            environment, clients=options.clients, seconds=options.seconds, proxy=options.proxy
        )
    print(f"{'database':44} {options.database}")
    return print_report(report, folder)


if __name__ == "__main__":
    sys.exit(main())
