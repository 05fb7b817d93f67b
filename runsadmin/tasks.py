"""The background tasks. They take only ids and act on the current state of rows, so it is safe to repeat a task.

Each kind of work has its own queue, and each queue has a thread in each worker, so that no kind waits for another. The
queue `default` is only for tasks that neither call upstream nor take long.
"""

import time
from datetime import timedelta

from django.tasks import task

from runsadmin.engine import attempts, stopping
from runsadmin.engine.recurring import Entry, enqueue_each, enqueue_unless_waiting, failed_last
from runsadmin.models import BulkEdit, Export, Sync
from runsadmin.services import (
    bulk_edits,
    compression,
    edits,
    exports,
    idempotency,
    marked_runs,
    probes,
    syncs,
    times_ahead,
    tokens,
)

MAX_SECONDS = 30.0
# The process that records a bulk edit works on its plan for this many seconds. Workers continue a larger plan.
PLANNING_SECONDS = 1.0
COMPRESSING_SECONDS = 10.0
REFRESHING_SECONDS = 10.0


@task(queue_name="push")
def push_edits() -> int:
    """Pushes edits for about half a minute. If there is too much work for one worker, enqueues another task first."""
    has_backlog = edits.has_backlog()
    if has_backlog and not failed_last(push_edits):
        enqueue_unless_waiting(push_edits)
    count = edits.process_due(until=time.monotonic() + MAX_SECONDS, stopping=stopping)
    if has_backlog and not count:
        stopping.wait(1)  # No edit could be claimed: all of them wait for other edits of their runs.
    bulk_edits.advance_statuses()
    return count


@task
def advance_bulk_edits() -> None:
    """Releases the claims of dead processes, and completes the bulk edits whose last edit has ended."""
    edits.release_expired()
    bulk_edits.advance_statuses()


@task
def correct_times_ahead() -> int:
    """Corrects times that are too far ahead after the clock was set back."""
    return times_ahead.correct() + attempts.start_delayed()


@task
def find_plans() -> int:
    return enqueue_each(plan_bulk_edit, bulk_edits.waiting_plans())


@task(queue_name="plan")
def plan_bulk_edit(pk: int) -> str:
    """Works on a plan for about half a minute. `find_plans` continues it if it is not complete by then."""
    planned = bulk_edits.continue_planning(
        BulkEdit.objects.get(pk=pk), until=time.monotonic() + MAX_SECONDS, stopping=stopping
    )
    enqueue_if_in_progress(planned)
    return str(planned.status)


def plan_and_enqueue(bulk_edit: BulkEdit) -> BulkEdit:
    """Works on a plan for about a second, so that a small plan is complete at once. Workers continue a larger one.

    Web requests call this after `bulk_edits.plan` or `plan_undo`, outside of a transaction.
    """
    bulk_edit = bulk_edits.continue_planning(bulk_edit, until=time.monotonic() + PLANNING_SECONDS)
    enqueue_if_in_progress(bulk_edit)
    return bulk_edit


def enqueue_if_in_progress(bulk_edit: BulkEdit) -> None:
    """Enqueues a task that pushes the edits. Call this after every action that may start the bulk edit."""
    if bulk_edit.is_in_progress:
        enqueue_unless_waiting(push_edits)


@task
def find_syncs() -> int:
    return enqueue_each(run_sync, syncs.claim_waiting())


@task(queue_name="sync")
def run_sync(pk: int) -> str:
    """Syncs for about half a minute, so that other syncs need not wait for a large one. `find_syncs` continues it."""
    until = time.monotonic() + MAX_SECONDS
    sync = syncs.run(Sync.objects.get(pk=pk), until=until, stopping=stopping, splits_off=True)
    return str(sync.status)


@task
def start_due_syncs() -> int:
    return len(syncs.start_due())


@task(queue_name="fetch")
def refresh_marked_runs() -> int:
    return marked_runs.refresh_all(until=time.monotonic() + REFRESHING_SECONDS, stopping=stopping)


@task(queue_name="fetch")
def probe_held_connections() -> None:
    probes.probe_held()


@task
def forget_old_keys() -> int:
    return idempotency.forget_old()


@task(queue_name="long")
def compress_stored_runs() -> int:
    """Compresses the runs that version 0.1.0 stored, for about ten seconds."""
    return compression.compress_stored(until=time.monotonic() + COMPRESSING_SECONDS, stopping=stopping)


@task
def find_exports() -> int:
    return enqueue_each(write_export, exports.claim_waiting())


@task(queue_name="export")
def write_export(pk: int) -> str:
    return str(exports.write(Export.objects.get(pk=pk), stopping=stopping).status)


@task
def delete_expired_exports() -> int:
    return exports.delete_expired()


@task
def delete_expired_tokens() -> int:
    return tokens.delete_expired()


SCHEDULE = (
    Entry("push_edits", push_edits, timedelta(seconds=2)),
    Entry("advance_bulk_edits", advance_bulk_edits, timedelta(seconds=2)),
    # After the clock was set back, this entry is too far ahead as well, so its task follows at once.
    Entry("correct_times_ahead", correct_times_ahead, timedelta(minutes=5)),
    Entry("find_plans", find_plans, timedelta(seconds=2)),
    Entry("find_syncs", find_syncs, timedelta(seconds=2)),
    Entry("find_exports", find_exports, timedelta(seconds=2)),
    Entry("refresh_marked_runs", refresh_marked_runs, timedelta(seconds=5)),
    Entry("probe_held_connections", probe_held_connections, timedelta(seconds=5)),
    Entry("compress_stored_runs", compress_stored_runs, timedelta(seconds=15)),
    Entry("start_due_syncs", start_due_syncs, timedelta(seconds=30)),
    Entry("forget_old_keys", forget_old_keys, timedelta(hours=1)),
    Entry("delete_expired_exports", delete_expired_exports, timedelta(hours=1)),
    Entry("delete_expired_tokens", delete_expired_tokens, timedelta(hours=1)),
)
