"""A connection that is no longer configured: its runs can be read, and what it began waits until it is back."""

import datetime as dt
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db.models import Model
from django.test import Client
from pytest_django import Settings

from runsadmin.bulk_patch import BulkPatch
from runsadmin.errors import UnknownConnection
from runsadmin.metadata import Metadata, MetadataPatch
from runsadmin.models import BulkEdit, Edit, ExportFormat, Run, Sync, SyncError, SyncStatus, Thread
from runsadmin.services import bulk_edits, clock, edits, syncs, tokens
from runsadmin.services.bulk_edits import BulkEditAction
from runsadmin.services.edits import EditAction
from runsadmin.services.exports import Dump
from runsadmin.services.permissions import Action
from runsadmin.services.run_search import RunSearch
from runsadmin.templatetags.links import change_url, list_url
from tests.bulk import make_bulk_edit
from tests.conftest import Connect, MakeRun

pytestmark = pytest.mark.django_db(transaction=True)

WAITS = "Waits for the connection eu to be configured with an upstream again."
WHY = "The connection &#x27;eu&#x27; is not configured"
S = SyncStatus

type Remove = Callable[[], None]


@pytest.fixture
def run(mirror_run: MakeRun, connect: Connect) -> Run:
    mirror_run(id="run_a", thread_id="thread_a", metadata={"team": "blue"})
    connect("eu")
    Thread.objects.update(connection="eu")
    Run.objects.update(connection="eu")
    return Run.objects.get()


@pytest.fixture
def remove(settings: Settings) -> Remove:
    """Removes the connection from the settings."""

    def remove() -> None:
        known = settings.RUNSADMIN_CONNECTIONS
        settings.RUNSADMIN_CONNECTIONS = {"default": known["default"]}

    return remove


@pytest.fixture
def page_of(client: Client, make_user: Callable[..., User]) -> Callable[[Model], str]:
    client.force_login(make_user(*Action))
    return lambda row: client.get(change_url(row)).text


# --- Syncs


def work_on(sync: Sync) -> Sync:
    return syncs.run(sync, until=time.monotonic() + 60)


@pytest.mark.parametrize("status", [S.QUEUED, S.RUNNING])
def test_sync_waits_until_the_connection_is_back(status: S, run: Run, remove: Remove, connect: Connect) -> None:
    sync = syncs.start(connection="eu", kind=Sync.Kind.FULL, actor=None)
    Sync.objects.update(status=status)
    remove()
    sync = work_on(sync)
    assert (sync.status, sync.errors_count, sync.attempts, syncs.wait_of(sync)) == (status, 0, 0, WAITS)
    assert (syncs.claim_waiting(), syncs.possible_actions(sync)) == ([], ("cancel",))
    connect("eu")
    assert syncs.wait_of(sync) == ""
    assert syncs.claim_waiting() == [sync.pk]
    assert work_on(sync).status == S.COMPLETED


def test_sync_says_that_it_waits(run: Run, remove: Remove, page_of: Callable[[Model], str], alice: User) -> None:
    sync = syncs.start(connection="eu", kind=Sync.Kind.FULL, actor=None)
    assert "Waiting for a worker" in page_of(sync)
    remove()
    shown = page_of(sync)
    assert WAITS in shown
    assert "Waiting for a worker" not in shown
    headers = {"Authorization": f"Token {tokens.create(user=alice, expires_in=dt.timedelta(hours=1))}"}
    assert Client(headers=headers).get(f"/api/v1/syncs/{sync.pk}/").json()["detail"] == WAITS
    Sync.objects.update(status=S.CANCELLED)
    assert WAITS not in page_of(sync)


# --- Actions


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("planned", {EditAction.CANCEL}), ("pending", {EditAction.CANCEL}), ("failed", set()), ("applied", set()),
        ("conflict", set()),
    ],
)  # fmt: skip
def test_only_cancelling_edits_is_offered(
    status: str, expected: set[EditAction], run: Run, remove: Remove, alice: User
) -> None:
    values: dict[str, Any] = {"base": {"team": "blue"}, "before": {"team": "blue"}, "after": {"team": "red"}}
    edit = Edit(run=run, patch=MetadataPatch({"team": "red"}), actor=alice, source="api", status=status, **values)
    assert edits.permitted_actions(edit, alice)
    remove()
    assert edits.permitted_actions(edit, alice) == expected


@pytest.mark.parametrize(
    ("status", "expected"),
    [("planned", {BulkEditAction.CANCEL}), ("paused", {BulkEditAction.CANCEL}), ("completed", set())],
)
def test_only_cancelling_bulk_edits_is_offered(
    status: str, expected: set[BulkEditAction], run: Run, remove: Remove, alice: User, page_of: Callable[[Model], str]
) -> None:
    bulk_edit = make_bulk_edit("run_a", status, alice)
    assert WHY not in page_of(bulk_edit)
    bulk_edit.refresh_from_db()
    remove()
    assert bulk_edits.possible_actions(bulk_edit) == expected
    shown = page_of(bulk_edit)
    assert WHY in shown
    assert not any(text in shown for text in ("Undo…", "Change 1 run", 'value="resume"', 'value="retry"'))


def test_pages_say_that_it_is_not_configured(
    run: Run, remove: Remove, alice: User, page_of: Callable[[Model], str], client: Client
) -> None:
    conflict = Edit.objects.create(
        run=run, patch=MetadataPatch({"team": "red"}), actor=alice, source="api", status="conflict",
        base=Metadata({"team": "blue"}), before=Metadata({"team": "green"}), finished_at=clock.now(),
    )  # fmt: skip
    resolve = f'action="{change_url(conflict, "resolve")}"'
    assert resolve in page_of(conflict)
    remove()
    for row, absent in (
        (run, ("Edit metadata", "Refresh")),
        (run.thread, ("Full sync", "Stop tracking")),
        (conflict, (resolve,)),
    ):
        shown = page_of(row)
        assert WHY in shown
        assert not any(text in shown for text in absent)
    assert client.get(change_url(run, "metadata")).headers["Location"] == change_url(run)


def test_draft_cannot_be_planned(run: Run, remove: Remove, client: Client, make_user: Callable[..., User]) -> None:
    actor = make_user(*Action)
    draft = bulk_edits.save_draft(selection=bulk_edits.by_ids(["run_a"]), actor=actor)
    client.force_login(actor)
    form = f"{list_url(BulkEdit, 'add')}?selection={draft.pk}"
    assert client.get(form).status_code == 200
    remove()
    assert "There is no connection &#x27;eu&#x27;" in client.get(form, follow=True).text
    with pytest.raises(UnknownConnection):
        bulk_edits.plan(
            selection=bulk_edits.Selection("eu", [run.pk]), patch=BulkPatch({"team": "red"}), actor=actor,
            source=Edit.Source.API, reason="r",
        )  # fmt: skip


# --- Exports


def test_manifest_lists_threads_of_all_connections(run: Run, remove: Remove) -> None:
    sync = Sync.objects.create(connection="eu", kind="full", status=S.COMPLETED_WITH_ERRORS)
    SyncError.objects.create(sync=sync, thread=run.thread, message="No.")
    remove()
    export = Dump(RunSearch.parse("connection:eu"), ExportFormat.JSONL, None)
    list(export)
    listed = {"count": 1, "first": [{"connection": "eu", "thread": "thread_a"}]}
    incomplete = export.manifest()["incomplete"]
    assert (incomplete["threads_never_read_fully"], incomplete["threads_with_sync_errors"]) == (listed, listed)
