"""Many edits and many kills: `python -m loadtests.storm --edits 2000 --kills 200 [--database sqlite|postgres]`.

Prints the counts. Exits with 1 if a count that must be 0 is not.
"""

import sys

from loadtests.command import new_folder, parser, prepared, print_report


def main() -> int:
    arguments = parser("storm", __doc__)
    arguments.add_argument("--edits", type=int, default=2000)
    arguments.add_argument("--kills", type=int, default=200)
    arguments.add_argument("--seed", type=int, help="repeat the same kills, as far as timing allows")
    options = arguments.parse_args()

    folder = new_folder("storm")
    with prepared(options.database, folder) as environment:
        from loadtests.storm_load import StormLoad

        report = StormLoad(environment, edits=options.edits, kills=options.kills, seed=options.seed).run()
    print(f"{'database':44} {options.database}")
    return print_report(report, folder)


if __name__ == "__main__":
    sys.exit(main())
