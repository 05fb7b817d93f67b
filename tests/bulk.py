"""Functions that tests of bulk edits share."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

from django.contrib.auth.models import User
from django.db import connection

from runsadmin.bulk_patch import BulkPatch
from runsadmin.models import BulkEdit, Edit
from runsadmin.services import bulk_edits, edits
from tests.sandbox_client import Sandbox
from tests.waiting import until


def complete_plan(bulk_edit: BulkEdit) -> BulkEdit:
    """Completes the plan in this process."""
    return bulk_edits.continue_planning(bulk_edit, until=float("inf"))


def push_until_settled(bulk_edit: BulkEdit) -> BulkEdit:
    """Does the work of the workers until the bulk edit is no longer in progress."""

    def has_stopped() -> bool:
        edits.process_due(until=time.monotonic() + 30)
        bulk_edits.advance_statuses()
        bulk_edit.refresh_from_db()
        return not bulk_edit.is_in_progress

    until(has_stopped)
    return bulk_edit


@contextmanager
def processing_edits(stopping: Event | None = None) -> Iterator[Future[None]]:
    """Processes due edits in another thread during the block, and waits for it at the end."""

    def process_due() -> None:
        try:
            edits.process_due(until=time.monotonic() + 30, stopping=stopping)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(process_due)
        yield future
    future.result()


@contextmanager
def sending_edits(sandbox: Sandbox, stopping: Event | None = None) -> Iterator[None]:
    """Like `processing_edits`, but the block begins after the first POST."""
    with processing_edits(stopping):
        until(sandbox.posts)
        yield


def make_bulk_edit(run_id: str, status: str, actor: User) -> BulkEdit:
    """Makes a bulk edit of one run, in this status. A completed one has two edits of it: one failed, one applied."""
    selection = bulk_edits.by_ids([run_id])
    bulk_edit = complete_plan(
        bulk_edits.plan(
            selection=selection, patch=BulkPatch({"team": "red"}), actor=actor, source=Edit.Source.ADMIN, reason="moved"
        )
    )
    if status != "planned":
        bulk_edits.apply(bulk_edit=bulk_edit, actor=actor)
    if status == "paused":
        bulk_edits.pause(bulk_edit=bulk_edit, actor=actor)
    if status == "completed":
        planned = bulk_edit.edits.get()
        planned.status, planned.finished_at, planned.before = "failed", planned.created_at, planned.base
        planned.save()
        planned.pk, planned.status, planned.after = None, "applied", {"team": "red"}
        planned.save()
        bulk_edits.advance_statuses()
    return bulk_edit
