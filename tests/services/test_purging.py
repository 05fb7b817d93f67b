"""Purging erases runs, the values in their edits, and text that no other run shares."""

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction

from runsadmin.errors import InvalidTransition
from runsadmin.metadata import MetadataPatch
from runsadmin.models import BulkEdit, Edit, EditStatus, MetadataPair, Run, SharedText, Sync, SyncError
from runsadmin.models.stored_json import Unpacked, pack
from runsadmin.services import bulk_edits, edits, purging, syncs
from runsadmin.services.purging import Purged
from tests.conftest import MakeRun
from tests.sandbox_client import Sandbox
from tests.services.bulk_edit import plan
from tests.services.single_edit import make_due, process_due, record

pytestmark = pytest.mark.django_db(transaction=True)

INSTRUCTIONS = "Never invent an order number, and keep a friendly tone. " * 10


@pytest.fixture
def applied(mirror_run: MakeRun, alice: User) -> Edit:
    run = mirror_run(metadata={"team": "secret-before"}, instructions=INSTRUCTIONS)
    edit = record(run, alice, MetadataPatch({"team": "secret-after"}))
    make_due(edit)
    process_due()
    return Edit.objects.get()


def copy_with_status(edit: Edit, status: EditStatus) -> Edit:
    copy = Edit.objects.get(pk=edit.pk)
    copy.pk, copy.status = None, status
    if status not in (EditStatus.CONFLICT, EditStatus.FAILED):
        copy.finished_at = None
    copy.save()
    return copy


def test_run_without_edits_is_deleted(mirror_run: MakeRun) -> None:
    run, other = mirror_run(metadata={"team": "red"}), mirror_run(metadata={"team": "blue"})
    assert purging.purge([run.pk]) == Purged(runs=1, pairs=1)
    assert Run.objects.get() == other
    assert MetadataPair.objects.get().run == other


def test_edits_remain_without_values(applied: Edit) -> None:
    assert purging.count([applied.run_id]) == purging.purge([applied.run_id]) == Purged(runs=1, pairs=1, edits=1)
    edit = Edit.objects.select_related("run").get()
    assert (edit.base, edit.before, edit.intended, edit.after) == (None, None, None, None)
    assert not edit.patch
    assert "values of this edit were purged" in edit.detail
    assert (edit.status, edit.actor, edit.run.upstream_id) == (
        EditStatus.APPLIED,
        applied.actor,
        applied.run.upstream_id,
    )
    assert edit.run.status == "purged"
    assert edit.run.data == {"id": edit.run.upstream_id, "status": "purged"}
    assert (edit.run.shared_text, edit.run.in_api_format) == (None, False)
    assert edit.run.as_api()["metadata"] is None
    assert not MetadataPair.objects.exists()


def test_purged_run_is_not_selected_again(applied: Edit) -> None:
    purging.purge(purging.select(Run.objects.all()))
    assert purging.select(Run.objects.all()) == []


@pytest.mark.parametrize("status", purging.NOT_ENDED)
def test_run_with_unsettled_edit_is_left_out(applied: Edit, status: EditStatus) -> None:
    Edit.objects.update(claim_token="0" * 32, claimed_until=applied.finished_at)
    copy_with_status(Edit.objects.get(), status)
    assert (
        purging.count([applied.run_id]) == purging.purge([applied.run_id]) == Purged(left_out=Counter([status.value]))
    )
    assert Edit.objects.filter(after=None).count() == 0
    assert Run.objects.get().metadata == {"team": "secret-after"}


def test_purged_edits_are_final(applied: Edit, alice: User) -> None:
    purging.purge([applied.run_id])
    for status in (EditStatus.FAILED, EditStatus.CONFLICT):
        copy_with_status(applied, status)
    purging.purge([applied.run_id])
    for edit in Edit.objects.all():
        assert edits.permitted_actions(edit, alice) == frozenset()
        for action in (edits.retry, edits.cancel):
            with pytest.raises(InvalidTransition):
                action(edit=edit, actor=alice)
        for new_edit in (edits.undo, lambda **kwargs: edits.resolve(patch=MetadataPatch({"a": "b"}), **kwargs)):
            with pytest.raises(InvalidTransition):
                new_edit(edit=edit, actor=alice, source=Edit.Source.API)


def test_undo_of_a_bulk_edit_skips_purged_edits(twelve_runs: list[Run], alice: User) -> None:
    bulk_edit = bulk_edits.apply(bulk_edit=plan(alice), actor=alice)
    process_due()
    bulk_edits.advance_statuses()
    purging.purge([twelve_runs[0].pk])
    undo = bulk_edits.plan_undo(
        bulk_edit=BulkEdit.objects.get(pk=bulk_edit.pk), actor=alice, source=Edit.Source.API, reason="back"
    )
    undo = bulk_edits.continue_planning(undo, until=time.monotonic() + 30)
    assert undo.edits.get(status=EditStatus.SKIPPED).run == twelve_runs[0]
    assert undo.edits.filter(status=EditStatus.PLANNED).count() == 11


def test_texts_that_quote_values_are_purged(applied: Edit, alice: User) -> None:
    sync = syncs.start(connection="default", kind=Sync.Kind.FULL, actor=alice)
    run = applied.run
    SyncError.objects.create(sync=sync, run_id=run.upstream_id, message="usage: 'secret'")
    bulk_edit = BulkEdit.objects.create(
        actor=alice, reason="r", connection="default", detail=f"{run.upstream_id}: 'secret' was returned."
    )
    Edit.objects.update(bulk_edit=bulk_edit)
    purging.purge([run.pk])
    assert not SyncError.objects.exists()
    assert "secret" not in BulkEdit.objects.get().detail


def test_shared_text_of_other_runs_remains(mirror_run: MakeRun) -> None:
    first, second, third = (mirror_run(instructions=INSTRUCTIONS) for _ in range(3))
    assert third.shared_text_id is not None
    purging.purge([first.pk, second.pk])
    assert purging.purge_unused_texts() == 0
    assert Run.objects.get().data == third.data
    purging.purge([third.pk])
    assert purging.purge_unused_texts() == 1
    assert not SharedText.objects.exists()


@pytest.fixture
def purged_run(mirror_run: MakeRun) -> Run:
    """A purged run. Its text, which no run shares any more, has not been purged yet."""
    runs = [mirror_run(instructions=INSTRUCTIONS) for _ in range(3)]
    purging.purge([run.pk for run in runs])
    return runs[2]


def store_again(run: Run, text: str, *, seconds: float = 0) -> None:
    """Stores a run with the shared text, in a transaction that takes `seconds`."""
    with transaction.atomic():
        columns = pack([Unpacked(run.raw, [text])])[0]
        time.sleep(seconds)
        run.pk, run.raw, run.shared_text_id = None, columns["raw"], columns["shared_text_id"]
        run.save()


def test_text_in_use_is_not_purged(purged_run: Run) -> None:
    text = SharedText.objects.get().text
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(closing(store_again), purged_run, text, seconds=0.5)
        time.sleep(0.2)
        assert purging.purge_unused_texts() == 0
        writing.result()
    assert Run.objects.get().data == purged_run.data


def test_purged_text_is_stored_again(purged_run: Run) -> None:
    def purge() -> None:
        with transaction.atomic():
            assert purging.purge_unused_texts() == 1
            time.sleep(0.5)

    text = SharedText.objects.get().text
    with ThreadPoolExecutor(1) as pool:
        purging_texts = pool.submit(closing(purge))
        time.sleep(0.2)
        store_again(purged_run, text)
        purging_texts.result()
    assert Run.objects.get().data == purged_run.data


def closing[**P](call: Callable[P, None]) -> Callable[P, None]:
    """Wraps a call for another thread: closes that thread's database connection afterwards."""

    def call_and_close(*arguments: P.args, **options: P.kwargs) -> None:
        try:
            call(*arguments, **options)
        finally:
            connection.close()

    return call_and_close


def test_run_is_mirrored_again_if_it_still_exists(applied: Edit, sandbox: Sandbox, alice: User) -> None:
    purging.purge([applied.run_id])
    sync = syncs.start(connection="default", kind=Sync.Kind.FULL, actor=alice)
    syncs.run(sync, until=time.monotonic() + 30)
    assert Run.objects.get().metadata == {"team": "secret-after"}
    assert MetadataPair.objects.get().value == "secret-after"
