"""`make bench`: measures how fast edits reach an upstream, prints tables, and writes the results as JSON."""

import argparse
import json
import os
from pathlib import Path
from typing import Any

from bench import push


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--latency", type=int, nargs="+", default=[0, 20, 100], metavar="MS")
    parser.add_argument("--edits", type=int, default=10_000)
    parser.add_argument("--runs-per-thread", type=int, nargs="+", default=[100, 1])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--database", nargs="+", choices=("SQLite", "PostgreSQL"), default=["SQLite", "PostgreSQL"])
    parser.add_argument("--json", type=Path, default=Path("var/bench/push.json"))
    options = parser.parse_args()
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
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(results, indent=2))
    for per_thread, by_latency in results.items():
        for latency, candidates in by_latency.items():
            print(table(per_thread, latency, candidates))
    print(f"Written to {options.json}.")


def table(per_thread: str, latency: str, candidates: dict[str, Any]) -> str:
    lines = [
        f"\nRuns per thread: {per_thread}; latency: {latency} ms; requests in flight: {push.IN_FLIGHT}",
        f"{'':34}{'edits/s':>9}{'of bound':>10}{'× async':>9}{'CPU ms':>8}  calls (GET, list, POST), repeats",
    ]
    for candidate, row in sorted(candidates.items(), key=lambda item: -item[1]["edits_per_second"]):
        share = "" if row["share_of_the_bound"] is None else f"{row['share_of_the_bound']:.2f}"
        counts = row["counts"]
        calls = f"{counts.get('GET', 0)}, {counts.get('list', 0)}, {counts.get('POST', 0)}"
        repeats = " ".join(f"{value:.0f}" for value in row["repeats"])
        lines.append(
            f"{candidate:34}{row['edits_per_second']:9.0f}{share:>10}{row['times_the_async_sdk']:9.2f}"
            f"{row['cpu_ms_per_edit']:8.2f}  {calls}; {repeats}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
