"""Backups during a bulk edit, each restored: `python -m loadtests.backups --edits 8000 [--database sqlite|postgres]`.

Another client changes values after the backups. Prints the counts. Exits with 1 if a count that must be 0 is not.
"""

import sys

from loadtests.command import new_folder, parser, prepared, print_report


def main() -> int:
    arguments = parser("backups", __doc__)
    arguments.add_argument("--edits", type=int, default=8000)
    arguments.add_argument("--latency", type=int, default=100, help="latency of the sandbox, in ms")
    arguments.add_argument("--backups", type=int, default=20)
    arguments.add_argument("--seed", type=int, default=1)
    options = arguments.parse_args()

    folder = new_folder("backups")
    with prepared(options.database, folder) as environment:
        from loadtests.backups_load import BackupsLoad

        workers = 1 if options.database == "sqlite" else 2
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
