"""How fast pages of runs are stored, compared with Django's own calls, and what a run costs on disk.

All candidates store the first runs of the same data in databases of their own, in a different order in every round.
Then runsadmin stores all of the data.
"""

import random
import sys
from statistics import median
from typing import Any

from bench.databases import Databases, in_process

OURS = "runsadmin"
PEERS = ("get, set, save", "update_or_create", "update_or_create with pairs")
PASSES = ("first load", "unchanged", "1% changed")
CLOCKS = ("wall_us", "cpu_us")
# The growth is measured in parts of this many runs.
CHUNK = 10_000


def measure(databases: Databases, runs: int, *, part: int, rounds: int) -> dict[str, Any]:
    """In each round, every candidate stores `part` runs."""

    def report(runs: int, way: str) -> None:
        print(f"  {databases.name}, {runs:,} runs: {way} …", file=sys.stderr, flush=True)

    part = min(part, runs)
    by_round: dict[str, list[Any]] = {way: [] for way in (OURS, *PEERS)}
    for _ in range(rounds):
        for way in random.sample(list(by_round), len(by_round)):
            report(part, way)
            with databases.empty() as url:
                by_round[way].append(in_process(url, "fill.load_and_sync_again", way, str(runs), str(part)))
    report(runs, OURS)
    with databases.filled(runs, again=True) as (url, load):
        whole = load | in_process(url, "fill.sync_again", OURS, str(runs), str(runs))
    compared = {
        way: {name: _medians([each[name] for each in of_way]) for name in PASSES} for way, of_way in by_round.items()
    }
    return {
        "compared": compared,
        "times": {peer: _times(compared[OURS], compared[peer]) for peer in PEERS},
        "whole": whole,
    }


def _medians(passes: list[dict[str, Any]]) -> dict[str, Any]:
    times = {clock: [each[clock] for each in passes] for clock in CLOCKS}
    return {"runs": passes[0]["runs"], **{clock: median(times[clock]) for clock in CLOCKS}, "rounds": times}


def _times(ours: dict[str, Any], peer: dict[str, Any]) -> dict[str, dict[str, float]]:
    """How many times faster we are in each pass."""
    return {name: {clock: peer[name][clock] / ours[name][clock] for clock in CLOCKS} for name in PASSES}


def table(database: str, runs: int, results: dict[str, Any]) -> str:
    lines = [
        f"\nIngest, {database}: microseconds per run, and how many times faster ours is",
        f"{'':30}{'pass':14}{'runs':>10}{'wall':>8}{'CPU':>8}{'× wall':>8}{'× CPU':>8}",
    ]
    for way, passes in results["compared"].items():
        for name, row in passes.items():
            times = results["times"].get(way, {}).get(name)
            ratios = f"{times['wall_us']:8.1f}{times['cpu_us']:8.1f}" if times else ""
            lines.append(f"{way:30}{name:14}{row['runs']:10,}{row['wall_us']:8.0f}{row['cpu_us']:8.0f}{ratios}")
    whole = results["whole"]
    for name in PASSES:
        row = whole[name]
        page = row["page_of_100"]
        lines.append(
            f"{'runsadmin, all runs':30}{name:14}{row['runs']:10,}{row['wall_us']:8.0f}{row['cpu_us']:8.0f}"
            f"  a page of 100: median {page['median_ms']:.1f} ms, p95 {page['p95_ms']:.1f} ms"
        )
    chunks = whole["first load"]["chunks"]
    lines.append(
        f"First load: {chunks[0]['wall_us']:.0f} µs per run at first, {chunks[-1]['wall_us']:.0f} at last."
        f" Peak memory: {whole['peak_memory_mb']:.0f} MB."
    )
    lines += [f"  {name:50}{size / runs:9.0f} bytes per run" for name, size in whole["sizes"].items()]
    return "\n".join(lines)


def growth(database: str, results: dict[str, Any]) -> str:
    """How our figures change from the smallest number of runs to the largest."""
    smallest, largest = min(results, key=int), max(results, key=int)
    before, after = results[smallest]["whole"], results[largest]["whole"]
    figures = {
        "peak memory, MB": (before["peak_memory_mb"], after["peak_memory_mb"]),
        **{f"{name}, CPU, µs per run": (before[name]["cpu_us"], after[name]["cpu_us"]) for name in PASSES},
        "database, bytes per run": tuple(
            of_size["sizes"]["whole database"] / int(size) for size, of_size in ((smallest, before), (largest, after))
        ),
    }
    lines = [f"\nIngest, {database}: growth from {int(smallest):,} to {int(largest):,} runs"]
    lines += [f"{name:30}{first:10.0f}{last:10.0f}{last / first:8.2f}" for name, (first, last) in figures.items()]
    return "\n".join(lines)
