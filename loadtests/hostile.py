"""Tests isolation: `python -m loadtests.hostile [--database sqlite|postgres] [--workers 2]`.

Syncs 49 good threads and, among them, one thread for each kind of bad item, while a single edit and a bulk edit are
sent. Prints what happened. Exits with 1 if a good thread is missing, a bad one has no reason, an edit had to wait, or
the workers log more than 100 lines a minute.
"""

import sys

from loadtests.command import new_folder, parser, prepared, print_report


def main() -> int:
    arguments = parser("hostile", __doc__)
    arguments.add_argument("--workers", type=int, default=2)
    options = arguments.parse_args()

    folder = new_folder("hostile")
    with prepared(options.database, folder) as environment:
        from loadtests.hostile_load import TIMEOUTS, HostileLoad

        environment.overrides = TIMEOUTS
        report = HostileLoad(environment, slow=True, workers=options.workers).run()
    print(f"{'database':44} {options.database}")
    return print_report(report, folder)


if __name__ == "__main__":
    sys.exit(main())
