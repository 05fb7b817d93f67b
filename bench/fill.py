"""Stores generated runs in an empty database and measures it."""

import gc
import os
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.db import connection

from bench import databases, ingest_peers, timing
from bench.data import PAGE_SIZE, Dataset
from bench.ingest import CHUNK
from runsadmin import lenient_json
from runsadmin.models import Thread
from runsadmin.services import runs
from runsadmin.services.clock import ClockBounds
from runsadmin.services.gateway import TimedResponse
from runsadmin.services.runs import Difference
from runsadmin.services.syncs.claimed import MAX_PENDING_RUNS, Pending
from runsadmin.upstream.records import Response, RunRecord

type StorePage = Callable[[Thread, bytes], None]


def store_as_syncs_do(thread: Thread, body: bytes) -> None:
    """What a sync does with a page that it has received. It stores several pages at once."""
    bounds = ClockBounds()
    requested_at, received_at = bounds.earliest(), bounds.latest()
    records = [RunRecord.read(item, thread_id=thread.upstream_id) for item in lenient_json.read(body)["data"]]
    page = [(thread, TimedResponse(Response(record, 200, "", 0), requested_at, received_at)) for record in records]
    _pending.add(runs.compare(page, of_list=True))
    if len(_pending.runs) >= MAX_PENDING_RUNS:
        store_pending()


def store_pending() -> None:
    Difference.of_all(_pending.differences).write()
    _pending.differences.clear()
    _pending.runs.clear()


_pending = Pending()

WAYS: dict[str, StorePage] = {
    "runsadmin": store_as_syncs_do,
    "get, set, save": ingest_peers.get_set_save,
    "update_or_create": ingest_peers.update_or_create,
    "update_or_create with pairs": ingest_peers.update_or_create_with_pairs,
}


def load_and_sync_again(way: str, size: str, limit: str) -> dict[str, Any]:
    return load(way, size, limit) | sync_again(way, size, limit)


def load(way: str, size: str, limit: str) -> dict[str, Any]:
    """Stores the first `limit` runs of a data set of this size in an empty database."""
    call_command("migrate", verbosity=0)
    results = {"first load": _pass(WAYS[way], Dataset(int(size)), int(limit)), "peak_memory_mb": _peak_memory()}
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE")  # A server in use does this automatically.
    return results | {"sizes": databases.sizes()}


def sync_again(way: str, size: str, limit: str) -> dict[str, Any]:
    """Stores the same runs three more times: unchanged, with one in a hundred changed, and with those changed back."""
    before, after = Dataset(int(size)), Dataset(int(size), changed=True)
    passes = {"unchanged": before, "1% changed": after, "1% changed back": before}
    return {name: _pass(WAYS[way], dataset, int(limit)) for name, dataset in passes.items()}


def _pass(store_page: StorePage, dataset: Dataset, part: int) -> dict[str, Any]:
    """Wall and CPU time in microseconds per run. The CPU time includes that of PostgreSQL's process."""
    gc.freeze()  # As workers do.
    chunks: list[dict[str, float]] = []
    full_pages: list[float] = []
    count, seconds, cpu, server_cpu = 0, 0.0, 0.0, _server_cpu()
    for thread, body, is_last in _pages(dataset, part):
        size = body.count(b'"object":"thread.run"')
        count += size
        began, began_cpu = time.perf_counter(), time.process_time()
        store_page(thread, body)
        if is_last or count >= CHUNK:
            store_pending()
        took = time.perf_counter() - began
        cpu += time.process_time() - began_cpu
        seconds += took
        if size == PAGE_SIZE:
            full_pages.append(1000 * took)
        if is_last or count >= CHUNK:
            chunks.append(_chunk(count, seconds, cpu + _server_cpu() - server_cpu))
            count, seconds, cpu, server_cpu = 0, 0.0, 0.0, _server_cpu()
    total = sum(chunk["runs"] for chunk in chunks)
    return {
        "runs": total,
        "wall_us": sum(chunk["wall_us"] * chunk["runs"] for chunk in chunks) / total,
        "cpu_us": sum(chunk["cpu_us"] * chunk["runs"] for chunk in chunks) / total,
        "page_of_100": timing.summary(full_pages) if full_pages else None,
        "chunks": chunks,
    }


def _chunk(count: int, seconds: float, cpu: float) -> dict[str, float]:
    return {"runs": count, "wall_us": 1e6 * seconds / count, "cpu_us": 1e6 * cpu / count}


def _pages(dataset: Dataset, part: int) -> Iterator[tuple[Thread, bytes, bool]]:
    """Each page with its thread, and whether it is the last one."""
    left = part
    for generated in dataset.threads():
        thread, _ = Thread.objects.get_or_create(connection="default", upstream_id=generated.id)
        left -= sum(body.count(b'"object":"thread.run"') for body in generated.pages)
        for number, body in enumerate(generated.pages, start=1):
            yield thread, body, left <= 0 and number == len(generated.pages)
        if left <= 0:
            return


def _server_cpu() -> float:
    """The CPU seconds of the process that serves this connection. 0 on SQLite, which has no such process."""
    if connection.vendor != "postgresql":
        return 0.0
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        fields = Path(f"/proc/{cursor.fetchone()[0]}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak_memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
