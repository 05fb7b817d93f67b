"""What tests of bulk edits share."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

from django.contrib.auth.models import User
from django.db import connection

from runsadmin.bulk_patch import BulkPatch
from runsadmin.models import BulkEdit
from runsadmin.services import bulk_edits, edits
from tests.sandbox_client import Sandbox
from tests.waiting import until


def whole(bulk_edit: BulkEdit) -> BulkEdit:
    """With its plan made, to the last run."""
    return bulk_edits.go_on_planning(bulk_edit, until=float("inf"))


def bring_to_an_end(bulk_edit: BulkEdit) -> BulkEdit:
    """What workers do, until it no longer goes on."""

    def has_stopped() -> bool:
        edits.settle(until=time.monotonic() + 30)
        bulk_edits.look_after()
        bulk_edit.refresh_from_db()
        return not bulk_edit.is_going_on

    until(has_stopped)
    return bulk_edit


@contextmanager
def settling(stopping: Event | None = None) -> Iterator[Future[None]]:
    """Meanwhile a worker brings on what is due. Leaves when it has ended."""

    def settle() -> None:
        try:
            edits.settle(until=time.monotonic() + 30, stopping=stopping)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as threads:
        working = threads.submit(settle)
        yield working
    working.result()


@contextmanager
def at_work(sandbox: Sandbox, stopping: Event | None = None) -> Iterator[None]:
    """As `settling`. Enters after the first POST."""
    with settling(stopping):
        until(sandbox.posts)
        yield


def bulk_edit_of(run_id: str, status: str, actor: User) -> BulkEdit:
    """Of one run, in this state. The completed one has a failed edit and an applied one."""
    chosen = bulk_edits.by_ids([run_id])
    bulk_edit = whole(bulk_edits.plan(chosen=chosen, patch=BulkPatch({"team": "red"}), actor=actor, reason="moved"))
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
        bulk_edits.look_after()
    return bulk_edit
