"""`make bench`: measures, prints ratios, and writes what it measured as JSON to var/bench/."""

import argparse
import json
import os
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

from bench import find, find_tables, ingest, push
from bench.databases import NAMES, Databases


def main() -> None:
    options = _parser().parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for part in PARTS if options.part == "all" else [options.part]:
        path = options.folder / f"{part}.json"
        for results in PARTS[part](options):
            path.write_text(json.dumps(results, indent=2))
        print(f"Written to {path}.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", nargs="?", choices=("all", *PARTS), default="all")
    parser.add_argument("--database", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--folder", type=Path, default=Path("var/bench"), help="of results and filled databases")
    group = parser.add_argument_group("push")
    group.add_argument("--latency", type=int, nargs="+", default=[0, 20, 100], metavar="MS")
    group.add_argument("--edits", type=int, default=10_000)
    group.add_argument("--runs-per-thread", type=int, nargs="+", default=[100, 1])
    group.add_argument("--repeats", type=int, default=3)
    group = parser.add_argument_group("ingest and find")
    group.add_argument("--runs", type=int, nargs="+", default=[100_000, 1_000_000], help="the sizes of the data set")
    group.add_argument("--peer-runs", type=int, default=3000, help="how many runs the alternatives store")
    group.add_argument("--rounds", type=int, default=3, help="how often each alternative stores its runs")
    group.add_argument("--warm", type=int, default=50, help="how often a search or page is timed")
    group.add_argument("--random-queries", type=int, default=2000, help="how many searches are generated")
    group.add_argument("--requests", type=int, default=400, help="requests per round over HTTP")
    return parser


# --- Each part yields what it has measured so far.


def _push(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    os.environ |= push.environment(f"sqlite:///{os.devnull}")  # The peers use no database.
    results: dict[str, Any] = {}
    for runs_per_thread in options.runs_per_thread:
        is_shared = runs_per_thread > 1  # Whether edits can share a fetch.
        results[str(runs_per_thread)] = push.measure(
            latencies=[latency for latency in options.latency if is_shared or latency == 20],
            edits=options.edits if is_shared else options.edits // 4,
            runs_per_thread=runs_per_thread,
            repeats=options.repeats,
            databases=options.database,
        )
        for latency, candidates in results[str(runs_per_thread)].items():
            print(push.table(str(runs_per_thread), latency, candidates))
        yield results


def _ingest(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    results: dict[str, Any] = {database: {} for database in options.database}
    for database, runs in product(options.database, options.runs):
        measured = ingest.measure(
            Databases(database, options.folder), runs, part=options.peer_runs, rounds=options.rounds
        )
        results[database][str(runs)] = measured
        print(ingest.table(database, runs, measured))
        if len(results[database]) > 1:
            print(ingest.growth(database, results[database]))
        yield results


def _find(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    results: dict[str, Any] = {database: {} for database in options.database}
    for database, runs in product(options.database, options.runs):
        measured = find.measure(
            Databases(database, options.folder),
            runs,
            repeats=options.warm,
            generated=options.random_queries,
            requests_per_round=options.requests,
        )
        results[database][str(runs)] = measured
        print(find_tables.of_database(database, runs, measured))
        if len(results[database]) > 1:
            print(find_tables.growth(database, results[database]))
        yield results


PARTS: dict[str, Callable[[argparse.Namespace], Iterator[dict[str, Any]]]] = {
    "push": _push,
    "ingest": _ingest,
    "find": _find,
}

if __name__ == "__main__":
    main()
