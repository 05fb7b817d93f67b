"""How fast runs are found and shown, compared with Django's admin list and with a plain ModelSerializer view."""

import sys
from typing import Any

from bench import timing, web
from bench.databases import Databases, in_process

# Seconds after which a search is stopped. The repeats of one search together take no longer than that, either.
LIMIT, GENERATED_LIMIT = 60, 10
SLOWEST = 10


def measure(
    databases: Databases, runs: int, *, repeats: int, generated: int, requests_per_round: int
) -> dict[str, Any]:
    def report(part: str) -> None:
        print(f"  {databases.name}, {runs:,} runs: {part} …", file=sys.stderr, flush=True)

    report("database")
    with databases.filled(runs) as (url, _):
        report("shapes")
        shapes = in_process(url, "statements.measure_shapes", str(runs), str(repeats), str(LIMIT))
        report("pages")
        pages = {
            project: in_process(url, "pages.measure", project, str(repeats), str(LIMIT), settings=settings)
            for project, settings in (("ours", "bench.settings"), ("plain", "bench.plain.settings"))
        }
        report("HTTP")
        over_http = web.measure(url, requests_per_round)
        report(f"{generated:,} generated searches")
        searches = in_process(url, "statements.measure_generated", str(generated), str(GENERATED_LIMIT))
    return {
        "shapes": shapes,
        "pages": pages,
        "times": _times(**pages),
        "http": over_http,
        "generated": _of_generated(searches),
    }


def _times(ours: dict[str, Any], plain: dict[str, Any]) -> dict[str, float]:
    """How many times faster our page of the same name is, if both projects responded."""
    return {
        name: plain[name]["median_ms"] / ours[name]["median_ms"]
        for name in ours.keys() & plain.keys()
        if name != "peak_memory_mb" and "median_ms" in plain[name] and "median_ms" in ours[name]
    }


def _of_generated(searches: list[dict[str, Any]]) -> dict[str, Any]:
    answered = sorted((each for each in searches if "error" not in each), key=lambda each: -each["database_ms"])
    failed = [each for each in searches if each.get("error", "").startswith("failed")]
    return {
        "searches": len(searches),
        "answered": len(answered),
        "failed": failed,
        "not_answered": [each for each in searches if "error" in each and each not in failed],
        "database": timing.summary([each["database_ms"] for each in answered]) if answered else None,
        "slowest": answered[:SLOWEST],
    }
