"""What the background engine calls. Tasks carry ids only: the rows are the truth, so a doubled one does no harm."""

import time
from datetime import timedelta

from django.tasks import task

from runsadmin.engine import stopping
from runsadmin.engine.schedule import Entry
from runsadmin.models import Sync
from runsadmin.services import connections, edits, idempotency, runs, syncs

SHARE = 30.0


@task
def settle_edits() -> int:
    return edits.settle(until=time.monotonic() + SHARE, stopping=stopping)


@task
def find_syncs() -> int:
    waiting = syncs.take_waiting()
    for pk in waiting:
        run_sync.enqueue(pk)
    return len(waiting)


@task(queue_name="long")
def run_sync(pk: int) -> str:
    """A share of about half a minute, so that small jobs never wait long behind a large pass. `find_syncs` goes on."""
    sync = syncs.run(Sync.objects.get(pk=pk), until=time.monotonic() + SHARE, stopping=stopping)
    return str(sync.status)


@task
def start_due_syncs() -> int:
    return len(syncs.start_due())


@task
def refresh_marked_runs() -> int:
    return runs.refresh_marked()


@task
def probe_held_connections() -> None:
    connections.probe_held()


@task
def forget_old_keys() -> int:
    return idempotency.forget_old()


SCHEDULE = (
    Entry("settle_edits", settle_edits, timedelta(seconds=2)),
    Entry("find_syncs", find_syncs, timedelta(seconds=2)),
    Entry("refresh_marked_runs", refresh_marked_runs, timedelta(seconds=5)),
    Entry("probe_held_connections", probe_held_connections, timedelta(seconds=10)),
    Entry("start_due_syncs", start_due_syncs, timedelta(seconds=30)),
    Entry("forget_old_keys", forget_old_keys, timedelta(hours=1)),
)
