"""Runs that are purged while users edit them: no purged value returns, and no edit is applied without a write."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction

from runsadmin.errors import InvalidTransition
from runsadmin.metadata import MetadataPatch
from runsadmin.models import (
    BulkEdit,
    BulkEditStatus,
    Edit,
    EditSource,
    EditStatus,
    ExportFormat,
    ExportStatus,
    Run,
)
from runsadmin.services import edits, exports, purging
from runsadmin.services.bulk_edits import planning
from runsadmin.services.edits import actions, recording
from runsadmin.services.purging import Purged
from runsadmin.services.run_search import RunSearch
from tests.conftest import MakeRun
from tests.sandbox_client import Sandbox
from tests.services.bulk_edit import apply, plan_for, plan_undo
from tests.services.single_edit import make_due, process_due, record

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


def start[T](pool: ThreadPoolExecutor, function: Callable[[], T]) -> Future[T]:
    """Calls the function in another thread, with a connection of its own."""

    def call() -> T:
        try:
            return function()
        finally:
            connection.close()

    return pool.submit(call)


@pytest.fixture
def applied(mirror_run: MakeRun, alice: User) -> Edit:
    run = mirror_run(metadata={"team": "secret-before"})
    make_due(record(run, alice, MetadataPatch({"team": "secret-after"})))
    process_due()
    return Edit.objects.get(status=EditStatus.APPLIED)


@pytest.fixture
def failed(applied: Edit) -> Edit:
    Edit.objects.update(status=EditStatus.FAILED)
    return Edit.objects.get()


def test_retry_during_purge_is_refused(
    failed: Edit, sandbox: Sandbox, alice: User, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    purge_edits, retries, writes = purging._purge_edits, [], len(sandbox.posts())

    def retry_and_purge(runs: Sequence[int]) -> int:
        retries.append(start(pool, lambda: edits.retry(edit=failed, actor=alice)))
        time.sleep(0.3)
        return purge_edits(runs)

    monkeypatch.setattr(purging, "_purge_edits", retry_and_purge)
    assert purging.purge([failed.run_id]) == Purged(runs=1, pairs=1, edits=1)

    with pytest.raises(InvalidTransition):
        retries[0].result(20)
    process_due()
    assert Edit.objects.get().status == EditStatus.REJECTED
    assert len(sandbox.posts()) == writes


@pytest.mark.only_on("postgresql")
def test_purge_during_retry_leaves_the_run_out(failed: Edit, alice: User, pool: ThreadPoolExecutor) -> None:
    with transaction.atomic():
        edits.retry(edit=failed, actor=alice)
        purged = start(pool, lambda: purging.purge([failed.run_id])).result(20)
    assert purged == Purged(left_out=Counter(failed=1))
    edit = Edit.objects.get()
    assert (edit.status, edit.patch) == (EditStatus.PENDING, failed.patch)


def test_edit_without_values_is_not_applied(applied: Edit, sandbox: Sandbox) -> None:
    writes = len(sandbox.posts())
    Edit.objects.update(
        status=EditStatus.PENDING, finished_at=None, patch=MetadataPatch(), detail="Its values were purged."
    )
    make_due(applied)
    process_due()
    edit = Edit.objects.get()
    assert (edit.status, edit.detail, len(sandbox.posts())) == (EditStatus.REJECTED, "Its values were purged.", writes)


def test_edit_of_deleted_run_is_refused(mirror_run: MakeRun, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    run = mirror_run(metadata={"team": "blue"})
    monkeypatch.setattr(recording, "check_not_retired", lambda alias: purging.purge([run.pk]))
    with pytest.raises(InvalidTransition, match=r"^The run was purged\."):
        record(run, alice)
    assert not Edit.objects.exists()


def test_edit_of_purged_run_is_refused(applied: Edit, alice: User) -> None:
    purging.purge([applied.run_id])
    with pytest.raises(InvalidTransition, match=r"^The run was purged\."):
        record(Run.objects.get(), alice)


@pytest.mark.only_on("postgresql")
@pytest.mark.parametrize("status", [EditStatus.APPLIED, EditStatus.CONFLICT])
def test_purged_values_are_not_recorded_again(
    status: EditStatus, applied: Edit, alice: User, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    Edit.objects.update(status=status)
    resolve = partial(edits.resolve, patch=MetadataPatch({"team": "secret-mine"}))

    def purge_and_lock(keys: Collection[int]) -> set[int]:
        monkeypatch.undo()
        start(pool, lambda: purging.purge([applied.run_id])).result(20)
        return recording.lock_runs(keys)

    monkeypatch.setattr(actions, "lock_runs", purge_and_lock)
    with pytest.raises(InvalidTransition, match="were purged"):
        (edits.undo if status == EditStatus.APPLIED else resolve)(edit=applied, actor=alice, source=Edit.Source.API)
    assert Edit.objects.count() == 1


def purge_after(monkeypatch: pytest.MonkeyPatch, name: str, run: Run) -> None:
    """Purges the run after this function of the module `planning` has read it."""
    read = getattr(planning, name)

    def read_and_purge(bulk_edit: BulkEdit, keys: Sequence[int]) -> list[Edit]:
        planned = list(read(bulk_edit, keys))
        purging.purge([run.pk])
        return planned

    monkeypatch.setattr(planning, name, read_and_purge)


def test_run_purged_while_planned_is_left_out(
    twelve_runs: list[Run], alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    purge_after(monkeypatch, "_changing", twelve_runs[2])
    planned = plan_for(alice, *twelve_runs)
    assert (planned.status, planned.edits.count()) == (BulkEditStatus.PLANNED, 11)


def test_undo_plan_leaves_purged_runs_out(twelve_runs: list[Run], alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    done = apply(plan_for(alice, *twelve_runs), alice)
    purge_after(monkeypatch, "_undoing", twelve_runs[2])
    undo = plan_undo(done, alice)
    assert (undo.status, undo.edits.count()) == (BulkEditStatus.PLANNED, 11)
    assert not undo.edits.filter(run=twelve_runs[2]).exists()


def test_purged_run_is_skipped_by_plans(applied: Edit, alice: User) -> None:
    purging.purge([applied.run_id])
    edit = plan_for(alice, Run.objects.get()).edits.get()
    assert (edit.plan_result, edit.status) == (Edit.PlanResult.METADATA_UNKNOWN, EditStatus.SKIPPED)
    assert "was purged" in edit.detail


def test_exports_expire_even_if_purge_dies(mirror_run: MakeRun, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    run = mirror_run(metadata={"customer": "secret"})
    search = RunSearch.parse("")
    new = exports.NewExport(actor=alice, source=EditSource.API, format=ExportFormat.CSV, search=search)
    export = exports.write(exports.request(new))
    assert export.status == ExportStatus.COMPLETED

    def die() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(connection, "run_and_clear_commit_hooks", die)
    with pytest.raises(KeyboardInterrupt):
        purging.purge([run.pk])
    export.refresh_from_db()
    assert export.status == ExportStatus.EXPIRED
