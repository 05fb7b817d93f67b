"""Measures how fast edits reach upstream: a whole bulk edit with default settings, compared with the alternatives.

All candidates call the same fast upstream, one after the other, in a different order in every round. The bound is the
theoretical optimum, in requests per second: requests in flight ÷ latency. Every candidate needs one request per edit,
except that a whole bulk edit needs two if every thread has only one run, because then no fetch is shared.
"""

import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import requests

PROCESSES = 2  # The default number of workers, each with CONCURRENCY = 16 requests in flight.
IN_FLIGHT = 32
PORT = 18111


@dataclass
class Measured:
    """One candidate at one latency: the edits per second of each repeat, and the CPU time of its processes per edit."""

    per_second: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def median(self) -> float:
        return statistics.median(self.per_second)


class Upstream:
    def __init__(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-m", "bench.upstream", "--port", str(PORT)])
        self._wait()

    def _wait(self) -> None:
        for _ in range(100):
            try:
                control("counts")
            except requests.ConnectionError:
                if self._process.poll() is not None:
                    raise SystemExit(f"The upstream did not start: is port {PORT} in use?") from None
                time.sleep(0.05)
            else:
                return
        raise TimeoutError("The upstream did not start.")

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


def control(what: str) -> Any:
    with requests.Session() as session:
        session.trust_env = False
        return session.get(f"http://127.0.0.1:{PORT}/v1/_control/{what}", timeout=60).json()


# --- The candidates


def processes(*commands: Sequence[str]) -> tuple[float, float]:
    """Runs commands in parallel, each of which prints its duration. Returns the longest, and the CPU time of all."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    # The vendor's client warns at every call that the API is deprecated.
    python = [sys.executable, "-W", "ignore::DeprecationWarning", "-m"]
    started = [subprocess.Popen([*python, *words], stdout=subprocess.PIPE, text=True) for words in commands]
    seconds = [float(process.communicate()[0]) for process in started]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return max(seconds), after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def peer(name: str, edits: int, runs_per_thread: int, *, process_count: int = 1) -> tuple[float, float]:
    """Measures a peer, in `process_count` processes. Their CPU time includes the start of Python."""
    bounds = [edits * number // process_count for number in range(process_count + 1)]
    return processes(
        *(
            [
                "bench.peers",
                name,
                str(PORT),
                str(first),
                str(last),
                str(runs_per_thread),
                str(IN_FLIGHT // process_count),
            ]
            for first, last in pairwise(bounds)
        )
    )


def load(edits: int, runs_per_thread: int) -> tuple[float, float]:
    return processes(
        ["bench.load", str(PORT), str(-(-edits // runs_per_thread)), str(runs_per_thread), str(IN_FLIGHT), str(edits)]
    )


def whole_bulk_edit(edits: int, runs_per_thread: int, latency: int) -> tuple[float, float]:
    """Times a bulk edit from applying it to its end. Returns its duration and the workers' CPU time, in seconds."""
    from django.db import transaction

    from bench import mirror
    from runsadmin import tasks
    from runsadmin.services import bulk_edits

    control("latency/0")  # The sync that fills the mirror is not measured.
    bulk_edit = mirror.planned(threads=-(-edits // runs_per_thread))
    control(f"latency/{latency}")
    control("forget")
    with mirror.workers(PROCESSES) as workers:
        before = sum(map(_cpu, workers))
        began = time.monotonic()
        with transaction.atomic():
            bulk_edits.apply(bulk_edit=bulk_edit, actor=bulk_edit.actor)
            tasks.push_edits.enqueue()
        while True:
            time.sleep(0.1)
            bulk_edit.refresh_from_db()
            if not bulk_edit.is_in_progress:
                break
        seconds = time.monotonic() - began
        cpu = sum(map(_cpu, workers)) - before
    outcomes = bulk_edits.progress(bulk_edit).statuses
    if outcomes != {"applied": edits}:
        raise SystemExit(f"Not every edit was applied: {outcomes}")
    return seconds, cpu


def _cpu(process: subprocess.Popen[bytes]) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# --- Measuring


def measure(
    *, latencies: Sequence[int], edits: int, runs_per_thread: int, repeats: int, databases: Sequence[str]
) -> dict[str, Any]:
    """Measures every candidate at every latency."""
    results: dict[int, dict[str, Measured]] = {}
    upstream = Upstream()
    try:
        for latency in latencies:
            candidates = [*(f"whole bulk edit, {database}" for database in databases), *_PEERS]
            results[latency] = {candidate: Measured() for candidate in candidates}
            for _ in range(repeats):
                for candidate in random.sample(candidates, len(candidates)):
                    number = min(edits, 400) if candidate == "SDK, in a loop" else edits
                    control(f"latency/{latency}")
                    control(f"seed/{-(-number // runs_per_thread)}/{runs_per_thread}")
                    seconds, cpu = _measure_once(candidate, number, runs_per_thread, latency)
                    measured = results[latency][candidate]
                    measured.per_second.append(number / seconds)
                    measured.cpu_ms.append(1000 * cpu / number)
                    measured.counts = control("counts")
                    rate = f"{number / seconds:8.0f} edits/s"
                    print(f"  {latency:3} ms  {candidate:32} {rate}", file=sys.stderr, flush=True)
    finally:
        upstream.stop()
    return {
        str(latency): {
            candidate: {
                "edits_per_second": measured.median,
                "repeats": measured.per_second,
                "cpu_ms_per_edit": statistics.median(measured.cpu_ms),
                "share_of_the_bound": _share_of_the_bound(measured.median, candidate, runs_per_thread, latency),
                "times_the_async_sdk": measured.median / by_candidate["SDK, async, one process"].median,
                "counts": measured.counts,
            }
            for candidate, measured in by_candidate.items()
        }
        for latency, by_candidate in results.items()
    }


def _share_of_the_bound(per_second: float, candidate: str, runs_per_thread: int, latency: int) -> float | None:
    """None if there is no latency, because there is then no bound."""
    requests_per_edit = 2 if runs_per_thread == 1 and candidate not in _PEERS else 1
    return per_second * requests_per_edit * latency / 1000 / IN_FLIGHT or None


_PEERS = (
    "pushing alone",
    "SDK, in a loop",
    "SDK, async, one process",
    "SDK, async, two processes",
    "load generator",
)


def _measure_once(candidate: str, edits: int, runs_per_thread: int, latency: int) -> tuple[float, float]:
    match candidate:
        case "pushing alone":
            return peer("pushing_alone", edits, runs_per_thread, process_count=PROCESSES)
        case "SDK, in a loop":
            return peer("sdk_loop", edits, runs_per_thread)
        case "SDK, async, one process":
            return peer("sdk_async", edits, runs_per_thread)
        case "SDK, async, two processes":
            return peer("sdk_async", edits, runs_per_thread, process_count=2)
        case "load generator":
            return load(edits, runs_per_thread)
        case _:
            return _run_in_new_process(candidate.rpartition(" ")[2], edits, runs_per_thread, latency)


def _run_in_new_process(database: str, edits: int, runs_per_thread: int, latency: int) -> tuple[float, float]:
    """Runs a whole bulk edit in a new process, because Django can be set up for only one database."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="runsadmin-bench-")))
        url = f"sqlite:///{folder}/db.sqlite3"
        if database == "PostgreSQL":
            from tests.postgres import server

            url = stack.enter_context(server(durable=True))
        output = subprocess.run(
            [sys.executable, "-m", "bench.whole", str(edits), str(runs_per_thread), str(latency)],
            env=os.environ | environment(url), stdout=subprocess.PIPE, text=True, check=True,
        ).stdout  # fmt: skip
        seconds, cpu = map(float, output.split())
        return seconds, cpu


def environment(database_url: str) -> dict[str, str]:
    """The default settings, with this upstream."""
    return {
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "ENV_FILE": os.devnull,
        "SECRET_KEY": "no-secret-only-long-enough-that-the-check-says-nothing",
        "DATABASE_URL": database_url,
        "RUNSADMIN_UPSTREAM_URL": f"http://127.0.0.1:{PORT}/v1",
        "RUNSADMIN_UPSTREAM_API_KEY": "bench",
    }


def table(per_thread: str, latency: str, candidates: dict[str, Any]) -> str:
    lines = [
        f"\nRuns per thread: {per_thread}; latency: {latency} ms; requests in flight: {IN_FLIGHT}",
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
