"""How fast pages of runs are stored, compared with Django's own calls, and what a run costs on disk.

The alternatives store the first runs of the same data, as many as `part`, in a database of their own. They are
compared with our times for as many runs: in the first load, all tables are then equally small; later, ours are larger.
"""

import sys
from typing import Any

from bench.databases import Databases, in_process

PEERS = ("get, set, save", "update_or_create", "update_or_create with pairs")
PASSES = ("first load", "unchanged", "1 % changed")
CLOCKS = ("wall_us", "cpu_us")
# The growth is measured in parts of this many runs.
CHUNK = 10_000


def measure(databases: Databases, runs: int, part: int) -> dict[str, Any]:
    results: dict[str, Any] = {}
    part = min(part, runs)
    for way in PEERS:
        _report(databases, part, way)
        with databases.empty() as url:
            results[way] = in_process(url, "fill.load_and_sync_again", way, str(runs), str(part))
    _report(databases, runs, "runsadmin")
    with databases.filled(runs, again=True) as (url, ours):
        results["runsadmin"] = ours | in_process(url, "fill.sync_again", "runsadmin", str(runs), str(runs))
    return results | {"times": {peer: _times(results["runsadmin"], results[peer]) for peer in PEERS}}


def _report(databases: Databases, runs: int, way: str) -> None:
    print(f"  {databases.name}, {runs:,} runs: {way} …", file=sys.stderr, flush=True)


def _times(ours: dict[str, Any], peer: dict[str, Any]) -> dict[str, dict[str, float]]:
    """How many times faster we are, in each pass, at the peer's number of runs."""
    return {
        name: {clock: peer[name][clock] / _beginning(ours[name], peer[name]["runs"])[clock] for clock in CLOCKS}
        for name in PASSES
    }


def _beginning(of_pass: dict[str, Any], runs: int) -> dict[str, float]:
    """The times of a pass until so many runs were stored."""
    chunks = of_pass["chunks"][: max(1, round(runs / CHUNK))]
    total = sum(chunk["runs"] for chunk in chunks)
    return {clock: sum(chunk[clock] * chunk["runs"] for chunk in chunks) / total for clock in CLOCKS}


def table(database: str, runs: int, results: dict[str, Any]) -> str:
    lines = [
        f"\nIngest, {database}, {runs:,} runs: µs a run (wall, CPU), milliseconds a page of 100",
        f"{'':30}{'pass':14}{'runs':>10}{'wall':>8}{'CPU':>8}{'median':>9}{'p95':>9}{'× wall':>8}{'× CPU':>7}",
    ]
    for way in ("runsadmin", *PEERS):
        for name in PASSES:
            row = results[way][name]
            times = results["times"].get(way, {}).get(name)
            ratios = f"{times['wall_us']:8.1f}{times['cpu_us']:7.1f}" if times else ""
            page = row["page_of_100"]
            of_page = f"{page['median_ms']:9.1f}{page['p95_ms']:9.1f}" if page else f"{'':18}"
            lines.append(
                f"{way:30}{name:14}{row['runs']:10,}{row['wall_us']:8.0f}{row['cpu_us']:8.0f}{of_page}{ratios}"
            )
    ours = results["runsadmin"]
    chunks = ours["first load"]["chunks"]
    lines.append(
        f"Growth of the first load: {chunks[0]['wall_us']:.0f} µs a run at first, {chunks[-1]['wall_us']:.0f} at last."
        f" Peak memory: {ours['peak_memory_mb']:.0f} MB."
    )
    lines += [f"  {name:50}{size / runs:9.0f} bytes a run" for name, size in ours["sizes"].items()]
    return "\n".join(lines)


def growth(database: str, results: dict[str, Any]) -> str:
    """How our figures change from the smallest number of runs to the largest."""
    smallest, largest = min(results, key=int), max(results, key=int)
    before, after = results[smallest]["runsadmin"], results[largest]["runsadmin"]
    figures = {
        "peak memory, MB": (before["peak_memory_mb"], after["peak_memory_mb"]),
        **{f"{name}, CPU, µs a run": (before[name]["cpu_us"], after[name]["cpu_us"]) for name in PASSES},
        "database, bytes a run": tuple(
            of_size["sizes"]["whole database"] / int(size) for size, of_size in ((smallest, before), (largest, after))
        ),
    }
    lines = [f"\nIngest, {database}: growth from {int(smallest):,} to {int(largest):,} runs"]
    lines += [f"{name:30}{first:10.0f}{last:10.0f}{last / first:8.2f}" for name, (first, last) in figures.items()]
    return "\n".join(lines)
