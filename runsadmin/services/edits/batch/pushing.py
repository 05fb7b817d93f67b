"""Pushes the due edits of one connection."""

import time
from collections.abc import Sequence
from threading import Event

from runsadmin import conf
from runsadmin.services.edits.batch.coordinator import Coordinator, Step
from runsadmin.services.edits.batch.pool import WorkerPool


def push_due(alias: str, *, until: float, stopping: Event | None = None) -> int:
    """Pushes and reconciles the due edits of a connection, until none is left or `time.monotonic()` reaches `until`.

    Returns how many edits it claimed.
    """

    def may_continue() -> bool:
        return time.monotonic() < until and not (stopping is not None and stopping.is_set())

    with WorkerPool[Sequence[Step]](conf.connection(alias).concurrency) as pool:
        coordinator = Coordinator(alias, pool)
        coordinator.run(may_continue)
    return coordinator.claimed_count
