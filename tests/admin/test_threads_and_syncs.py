"""Tracking, syncing and untracking threads, and the progress of syncs."""

import time

import pytest
from django.test import Client

from runsadmin.models import Run, Sync, SyncStatus, Thread
from runsadmin.services import syncs
from tests.admin.conftest import run_action
from tests.conftest import MakeRun
from tests.sandbox_client import Sandbox, make_run

pytestmark = pytest.mark.django_db(transaction=True)

THREADS, SYNCS = "/admin/runsadmin/thread/", "/admin/runsadmin/sync/"


def sync_url(sync: Sync, name: str = "change") -> str:
    return f"{SYNCS}{sync.pk}/{name}/"


def test_each_pasted_id_gets_a_result(mirror_run: MakeRun, as_alice: Client) -> None:
    mirror_run(thread_id="thread_old")
    pasted = "thread_new1, thread_new2\r\n thread_old ../../etc;thread_new1"

    shown = as_alice.post(f"{THREADS}add/", {"connection": "default", "thread_ids": pasted}).text

    assert {thread.upstream_id for thread in Thread.objects.all()} == {"thread_new1", "thread_new2", "thread_old"}
    rows = shown[shown.index('id="tracked"') :]
    assert rows.index("Added") < rows.index("thread_new1") < rows.index("thread_new2") < rows.index("Already tracked")
    assert rows.index("Already tracked") < rows.index("thread_old") < rows.index("Invalid") < rows.index("../../etc")


def test_invalid_track_form_is_refused(sandbox: Sandbox, as_alice: Client) -> None:
    assert "at least one" in as_alice.post(f"{THREADS}add/", {"connection": "default", "thread_ids": " "}).text
    shown = as_alice.post(f"{THREADS}add/", {"connection": "nowhere", "thread_ids": "thread_a"}).text
    assert "no connection" in shown
    assert "thread_a" in shown
    assert not Thread.objects.exists()


def test_untracked_thread_keeps_its_runs(mirror_run: MakeRun, as_alice: Client) -> None:
    thread = mirror_run().thread

    assert "Mirrored runs are kept" in run_action(as_alice, thread, "stop_tracking", follow=True).text
    thread.refresh_from_db()
    assert not thread.tracked
    assert Run.objects.count() == 1

    run_action(as_alice, thread, "track_again")
    thread.refresh_from_db()
    assert thread.tracked


@pytest.mark.parametrize("kind", ["incremental", "full"])
def test_sync_covers_one_thread_or_all(sandbox: Sandbox, mirror_run: MakeRun, as_alice: Client, kind: str) -> None:
    thread = mirror_run().thread
    sandbox.put_runs([make_run(thread_id=thread.upstream_id, id="run_new")])

    response = as_alice.post(f"{SYNCS}start/", {"kind": kind, "thread": thread.pk})
    sync = Sync.objects.get(thread=thread)
    assert response.headers["Location"] == sync_url(sync)
    assert (sync.kind, str(sync.actor)) == (kind, "alice")
    assert syncs.run(sync, until=time.monotonic() + 30).status == SyncStatus.COMPLETED
    assert Run.objects.filter(upstream_id="run_new").exists()

    as_alice.post(f"{SYNCS}start/", {"kind": kind, "connection": "default"})
    assert Sync.objects.filter(thread=None, kind=kind, status="queued").count() == 1


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"kind": "other"}, "Nothing was started"),
        ({"kind": "full", "thread": "99"}, "Nothing was started"),
        ({"kind": "full", "connection": "x"}, "There is no connection"),
    ],
)
def test_invalid_sync_form_is_refused(sandbox: Sandbox, as_alice: Client, form: dict[str, str], message: str) -> None:
    shown = as_alice.post(f"{SYNCS}start/", form, follow=True).text

    assert message in shown
    assert not Sync.objects.exists()


def test_sync_page_polls_until_the_end(mirror_run: MakeRun, as_alice: Client) -> None:
    mirror_run()
    as_alice.post(f"{SYNCS}start/", {"kind": "full", "connection": "default"})
    sync = Sync.objects.get()
    assert 'hx-trigger="every' in as_alice.get(sync_url(sync)).text
    assert 'hx-trigger="every' in as_alice.get(SYNCS).text

    syncs.run(sync, until=time.monotonic() + 30)
    shown = as_alice.get(sync_url(sync)).text
    assert "Completed" in shown
    assert 'hx-trigger="every' not in shown
    assert 'hx-trigger="every' not in as_alice.get(SYNCS).text


def test_sync_errors_are_shown(sandbox: Sandbox, mirror_run: MakeRun, as_alice: Client) -> None:
    run = mirror_run(thread_id="thread_gone")
    mirror_run(thread_id="thread_there")
    sandbox.delete_thread(run.thread.upstream_id)
    as_alice.post(f"{SYNCS}start/", {"kind": "full", "connection": "default"})
    sync = syncs.run(Sync.objects.get(), until=time.monotonic() + 30)

    shown = as_alice.get(sync_url(sync)).text

    assert sync.status == SyncStatus.COMPLETED_WITH_ERRORS
    assert "Completed with errors" in shown
    assert "thread_gone" in shown
    thread = as_alice.get(f"{THREADS}{run.thread_id}/change/").text
    assert "No syncs of this thread alone." in thread
    assert "Upstream has no thread with this id. It has been missing since" in thread
    assert "Upstream has no thread with this id" in shown


def test_sync_is_paused_resumed_and_cancelled(mirror_run: MakeRun, as_alice: Client, as_carol: Client) -> None:
    mirror_run()
    as_alice.post(f"{SYNCS}start/", {"kind": "full", "connection": "default"})
    sync = Sync.objects.get()
    assert "Only a running sync can be paused" in run_action(as_alice, sync, "pause", follow=True).text
    Sync.objects.update(status="running")

    for action, status in (("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")):
        assert run_action(as_carol, sync, action).status_code == 403
        run_action(as_alice, sync, action)
        assert Sync.objects.get().status == status
