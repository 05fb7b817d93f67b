"""A bulk edit with killed workers, and its undo: `python -m loadtests.bulk --edits 50000 --kills 12`.

With `--faults` nothing is killed; instead, upstream rejects requests, fails and loses responses. Prints the counts.
Exits with 1 if a count that must be 0 is not.
"""

import sys

from loadtests.command import new_folder, parser, prepared, print_report


def main() -> int:
    arguments = parser("bulk", __doc__)
    arguments.add_argument("--edits", type=int, default=50_000)
    arguments.add_argument("--kills", type=int, default=12)
    arguments.add_argument("--per-thread", type=int, default=100, help="runs per thread")
    arguments.add_argument("--workers", type=int, help="default: one on SQLite, two on PostgreSQL")
    arguments.add_argument("--faults", action="store_true", help="use a faulty upstream instead of killing workers")
    arguments.add_argument("--seed", type=int, help="repeat the same kills, as far as timing allows")
    options = arguments.parse_args()

    folder = new_folder("bulk")
    workers = options.workers or (1 if options.database == "sqlite" else 2)
    with prepared(options.database, folder) as environment:
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
