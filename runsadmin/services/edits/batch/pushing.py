"""Pushes the due edits of one connection."""

from collections.abc import Sequence
from threading import Event

from runsadmin import conf
from runsadmin.services.edits.batch.coordinator import Coordinator, Step
from runsadmin.services.edits.batch.pool import WorkerPool


def push_due(alias: str, *, until: float, stopping: Event | None = None) -> int:
    """Pushes and reconciles the due edits of a connection, until none is left or `time.monotonic()` reaches `until`.

    Once `stopping` is set, only requests in flight end. Returns how many edits it claimed.
    """
    with WorkerPool[Sequence[Step]](conf.connection(alias).concurrency) as pool:
        coordinator = Coordinator(alias, pool)
        coordinator.run(until=until, stopping=stopping or Event())
    return coordinator.claimed_count
