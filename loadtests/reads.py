"""REST reads during a bulk edit: `python -m loadtests.reads --edits 20000 [--database sqlite|postgres]`.

Prints how long reads take before and during the bulk edit. Exits with 1 if a count that must be 0 is not.
"""

import sys

from loadtests.command import new_folder, parser, prepared, print_report


def main() -> int:
    arguments = parser("reads", __doc__)
    arguments.add_argument("--edits", type=int, default=20_000)
    arguments.add_argument("--reads", type=int, default=1000, help="how many reads to time before the bulk edit")
    arguments.add_argument("--pause", type=float, default=0.05, help="seconds between two reads")
    options = arguments.parse_args()

    folder = new_folder("reads")
    with prepared(options.database, folder) as environment:
        from loadtests.environment import DEFAULT_TIMEOUTS
        from loadtests.reads_load import ReadsLoad

        environment.overrides = {**DEFAULT_TIMEOUTS, "RUNSADMIN_API_REQUESTS_PER_MINUTE": "60000"}
        load = ReadsLoad(environment, edits=options.edits, per_thread=100, workers=1, fast=False)
        report = load.run_with_reads(options.reads, pause=options.pause)
    print(f"{'database':44} {options.database}")
    return print_report(report, folder)


if __name__ == "__main__":
    sys.exit(main())
