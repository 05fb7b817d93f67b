"""The tables that `bench.find` prints."""

from typing import Any

from bench.databases import NAMES


def of_database(database: str, runs: int, results: dict[str, Any]) -> str:
    title = f"\nFind, {database}, {runs:,} runs"
    return "\n".join(
        [
            f"{title}: database time of a page of 100, ms (* over its budget)",
            *_shapes(database, results["shapes"]),
            f"{title}: whole pages in one process, ms",
            *_pages(results["pages"], results["times"]),
            f"{title}: a REST page of 100 over HTTP, two processes",
            *_http(results["http"]),
            f"{title}: {results['generated']['searches']:,} generated searches, database time, ms",
            *_generated(results["generated"]),
        ]
    )


def _shapes(database: str, shapes: list[dict[str, Any]]) -> list[str]:
    lines = [f"{'':46}{'rows':>5}{'median':>10}{'p95':>10}{'budget':>8}"]
    for shape in shapes:
        budget = shape["budget"][NAMES.index(database)]
        if "error" in shape:
            lines.append(f"{shape['name']:46}{shape['error'][:73]}")
        else:
            mark = "*" if shape["p95_ms"] > budget else ""
            lines.append(
                f"{shape['name']:46}{shape['rows']:5}{shape['median_ms']:10.2f}{shape['p95_ms']:10.2f}{budget:8}{mark}"
            )
    return lines


def _pages(pages: dict[str, Any], times: dict[str, float]) -> list[str]:
    lines = [f"{'':58}{'median':>10}{'p95':>10}{'× plain':>9}"]
    for project, of_project in pages.items():
        for name, page in of_project.items():
            if name == "peak_memory_mb":
                lines.append(f"{project + ': peak memory':58}{page:7.0f} MB")
            elif "median_ms" in page:
                ratio = f"{times[name]:9.1f}" if project == "ours" and name in times else ""
                lines.append(f"{project + ': ' + name:58}{page['median_ms']:10.2f}{page['p95_ms']:10.2f}{ratio}")
            else:
                lines.append(f"{project + ': ' + name:58}not answered: {page['status']}")
    return lines


def _http(results: dict[str, Any]) -> list[str]:
    times = results["times"]
    return [
        f"{name:46}{value:8.0f} requests/s" + (f", ours is {times[name]:.1f} times faster" if name in times else "")
        for name, value in results["requests_per_second"].items()
    ] + [f"{name + ': peak memory':46}{value:8.0f} MB" for name, value in results["peak_memory_mb"].items()]


def _generated(results: dict[str, Any]) -> list[str]:
    lines = [f"answered: {results['answered']:,}, failed: {len(results['failed']):,}"]
    if results["database"]:
        lines.append("median {median_ms:.2f}, p95 {p95_ms:.2f}, largest {max_ms:.2f}".format(**results["database"]))
    lines += [f"{search['error'][:30]:>30}  {search['text'][:90]}" for search in results["failed"]]
    return lines + [f"{search['database_ms']:10.2f}  {search['text'][:110]}" for search in results["slowest"]]


def growth(database: str, results: dict[str, Any]) -> str:
    """How much slower each shape is with the largest number of runs than with the smallest."""
    smallest, largest = min(results, key=int), max(results, key=int)
    before = {shape["name"]: shape["median_ms"] for shape in results[smallest]["shapes"] if "median_ms" in shape}
    lines = [f"\nFind, {database}: growth from {int(smallest):,} to {int(largest):,} runs, medians"]
    lines += [
        f"{shape['name']:46}{shape['median_ms'] / before[shape['name']]:8.1f}"
        for shape in results[largest]["shapes"]
        if "median_ms" in shape and shape["name"] in before
    ]
    return "\n".join(lines)
