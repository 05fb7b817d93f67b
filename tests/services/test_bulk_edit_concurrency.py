"""Bulk edits together with other edits and holds, and how their runs share fetches."""

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.utils import timezone

from runsadmin.bulk_patch import BulkPatch
from runsadmin.metadata import MetadataPatch
from runsadmin.models import BulkEdit, BulkEditStatus, ConnectionState, Edit, EditStatus, Run
from runsadmin.services import bulk_edits, connections, edits
from tests.bulk import push_until_settled
from tests.conftest import Connect, MakeRun
from tests.sandbox_client import Sandbox, make_run
from tests.services.bulk_edit import apply, make_due, metadata, plan, plan_for, statuses, stop_halfway

pytestmark = pytest.mark.django_db(transaction=True)


# --- Together with other edits


def test_concurrent_bulk_edits_progress_together(
    connect: Connect, sandbox: Sandbox, twelve_runs: list[Run], mirror_run: MakeRun, alice: User, bob: User
) -> None:
    connect(CONCURRENCY=1)
    others = [mirror_run(thread_id="thread_3", metadata={"team": "green"}) for _ in range(12)]
    first, second = plan(alice), plan(bob, "metadata.team:green")
    sandbox.settings(latency_ms=40)
    for bulk_edit, actor in ((first, alice), (second, bob)):
        bulk_edits.apply(bulk_edit=bulk_edit, actor=actor)
    push_until_settled(first)
    push_until_settled(second)
    assert statuses(first) == statuses(second) == {EditStatus.APPLIED: 12}
    other_ids = {run.upstream_id for run in others}
    sent_by_second = sum(run_id in other_ids for run_id in sandbox.posted_run_ids()[:12])
    assert 3 <= sent_by_second <= 9, "Both progress at about the same speed."


def test_bulk_edits_of_the_same_runs_are_applied(
    sandbox: Sandbox, twelve_runs: list[Run], alice: User, bob: User
) -> None:
    first, second = plan(alice), plan(bob, patch=BulkPatch({"env": "prod"}))
    for bulk_edit in (second, first):
        bulk_edits.apply(bulk_edit=bulk_edit, actor=bob)
    assert statuses(push_until_settled(first)) == statuses(push_until_settled(second)) == {EditStatus.APPLIED: 12}
    assert metadata(sandbox, twelve_runs) == [{"team": "red", "n": str(n), "env": "prod"} for n in range(12)]


def record(run: Run, actor: User, **pairs: str) -> Edit:
    edit = edits.record(run=run, patch=MetadataPatch(pairs), actor=actor, source=Edit.Source.ADMIN)
    Edit.objects.filter(pk=edit.pk).update(next_attempt_at=timezone.now())
    return edit


def test_single_edit_goes_first(
    connect: Connect, sandbox: Sandbox, twelve_runs: list[Run], mirror_run: MakeRun, alice: User, bob: User
) -> None:
    connect(CONCURRENCY=1)
    run = mirror_run(thread_id="thread_9", metadata={"team": "green"})
    bulk_edit = bulk_edits.apply(bulk_edit=plan(alice), actor=alice)
    record(run, bob, env="prod")
    push_until_settled(bulk_edit)
    assert run.upstream_id in sandbox.posted_run_ids()[:4]


def test_single_edit_of_same_run_goes_first(sandbox: Sandbox, twelve_runs: list[Run], alice: User, bob: User) -> None:
    bulk_edit = bulk_edits.apply(bulk_edit=plan(alice), actor=alice)
    single = record(twelve_runs[5], bob, env="prod")
    push_until_settled(bulk_edit)
    single.refresh_from_db()
    bulk = bulk_edit.edits.get(run=twelve_runs[5])
    assert (single.status, statuses(bulk_edit)) == (EditStatus.APPLIED, {EditStatus.APPLIED: 12})
    assert single.finished_at is not None
    assert bulk.finished_at is not None
    assert single.finished_at < bulk.finished_at
    assert sandbox.metadata(twelve_runs[5].upstream_id) == {"team": "red", "n": "5", "env": "prod"}


def test_paused_bulk_edit_blocks_no_single_edit(
    sandbox: Sandbox, twelve_runs: list[Run], alice: User, bob: User
) -> None:
    bulk_edit = bulk_edits.apply(bulk_edit=plan(alice), actor=alice)
    bulk_edits.pause(bulk_edit=bulk_edit, actor=alice)
    assert edits.push(record(twelve_runs[0], bob, team="violet")).status == EditStatus.APPLIED
    single = record(twelve_runs[1], bob, team="violet")
    edits.process_due(until=time.monotonic() + 5)
    single.refresh_from_db()
    assert single.status == EditStatus.APPLIED
    bulk_edit = push_until_settled(bulk_edits.resume(bulk_edit=bulk_edit, actor=alice))
    assert statuses(bulk_edit) == {EditStatus.APPLIED: 10, EditStatus.CONFLICT: 2}


def test_paused_bulk_edit_blocks_no_other(twelve_runs: list[Run], alice: User) -> None:
    first, second = plan(alice), plan(alice, patch=BulkPatch({"env": "prod"}))
    bulk_edits.pause(bulk_edit=bulk_edits.apply(bulk_edit=first, actor=alice), actor=alice)
    assert statuses(apply(second, alice)) == {EditStatus.APPLIED: 12}


def test_permission_is_checked_at_the_claim(sandbox: Sandbox, twelve_runs: list[Run], alice: User) -> None:
    bulk_edit = bulk_edits.apply(bulk_edit=plan(alice), actor=alice)
    alice.user_permissions.clear()
    bulk_edit = push_until_settled(bulk_edit)
    assert (bulk_edit.status, statuses(bulk_edit)) == (BulkEditStatus.COMPLETED, {EditStatus.REJECTED: 12})
    assert "may no longer edit metadata" in bulk_edit.edits.all()[0].detail
    assert sandbox.posts() == []


def test_hold_rejects_nothing(sandbox: Sandbox, twelve_runs: list[Run], alice: User) -> None:
    bulk_edit = bulk_edits.apply(bulk_edit=plan(alice), actor=alice)
    sandbox.settings(api_key="another-key")
    edits.process_due(until=time.monotonic() + 5)
    bulk_edits.advance_statuses()
    assert connections.is_held("default")
    bulk_edit.refresh_from_db()
    assert (bulk_edit.is_in_progress, statuses(bulk_edit)) == (True, {EditStatus.PENDING: 12})
    assert sandbox.posts() == []
    assert edits.process_due(until=time.monotonic() + 1) == 0, "Edits of a held connection are not claimed."
    sandbox.settings(api_key=sandbox.key)
    connections.release("default")
    make_due(bulk_edit)
    assert statuses(push_until_settled(bulk_edit)) == {EditStatus.APPLIED: 12}


def test_hold_during_bulk_edit_stops_sending(
    slow_upstream: None, sandbox: Sandbox, twelve_runs: list[Run], alice: User
) -> None:
    bulk_edit = bulk_edits.apply(bulk_edit=plan(alice), actor=alice)
    hold = ConnectionState.Hold.OPERATOR
    sent = stop_halfway(sandbox, lambda: connections.hold("default", hold, "bob stopped all sending."))
    assert statuses(bulk_edit) == {EditStatus.APPLIED: sent, EditStatus.PENDING: 12 - sent}
    connections.release("default")
    make_due(bulk_edit)
    assert statuses(push_until_settled(bulk_edit)) == {EditStatus.APPLIED: 12}
    assert len(sandbox.posts()) == 12


# --- Shared fetches


def count_fetches(sandbox: Sandbox) -> int:
    return sum("/runs/" in call["path"] for call in sandbox.gets())


def count_lists(sandbox: Sandbox) -> int:
    return sum(call["path"].endswith("/runs") for call in sandbox.gets())


def test_run_on_another_page_is_fetched(sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> None:
    now = int(time.time())
    new = [mirror_run(thread_id="thread_long", created_at=now - n) for n in range(2)]
    old = mirror_run(thread_id="thread_long", created_at=now - 1000)
    sandbox.put_runs([make_run(thread_id="thread_long", created_at=now - 10 - n) for n in range(110)])
    bulk_edit = plan_for(alice, *new, old)
    sandbox.clear_log()
    assert statuses(apply(bulk_edit, alice)) == {EditStatus.APPLIED: 3}
    assert (count_lists(sandbox), count_fetches(sandbox)) == (1, 1)
    assert len(sandbox.gets(old.upstream_id)) == 1


def test_long_thread_is_read_in_pages(sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> None:
    now = int(time.time())
    new = [mirror_run(thread_id="thread_long", created_at=now - n) for n in range(2)]
    old = [mirror_run(thread_id="thread_long", created_at=now - 1000 - n) for n in range(2)]
    sandbox.put_runs([make_run(thread_id="thread_long", created_at=now - 10 - n) for n in range(110)])
    bulk_edit = plan_for(alice, *new, *old)
    sandbox.clear_log()
    assert statuses(apply(bulk_edit, alice)) == {EditStatus.APPLIED: 4}
    assert (count_lists(sandbox), count_fetches(sandbox)) == (2, 0)


@pytest.mark.parametrize("status", [400, 404, 405])
def test_failed_list_falls_back_to_fetches(status: int, sandbox: Sandbox, twelve_runs: list[Run], alice: User) -> None:
    bulk_edit = plan(alice)
    sandbox.clear_log()
    sandbox.fault("status", status=status, method="GET", path=r"/runs$", times=None)
    assert statuses(apply(bulk_edit, alice)) == {EditStatus.APPLIED: 12}
    assert (count_lists(sandbox), count_fetches(sandbox)) == (2, 12)


def test_temporarily_failed_list_is_retried(sandbox: Sandbox, twelve_runs: list[Run], alice: User) -> None:
    bulk_edit = plan(alice)
    sandbox.clear_log()
    sandbox.fault("status", status=500, method="GET", path=r"thread_0/runs$")
    assert statuses(apply(bulk_edit, alice)) == {EditStatus.APPLIED: 12}
    assert (count_lists(sandbox), count_fetches(sandbox)) == (3, 0)


def test_edit_retried_while_bulk_edit_completes_is_sent(sandbox: Sandbox, twelve_runs: list[Run], alice: User) -> None:
    bulk_edit = bulk_edits.apply(bulk_edit=plan_for(alice, twelve_runs[0]), actor=alice)
    bulk_edit.edits.update(status=EditStatus.FAILED, finished_at=timezone.now(), next_attempt_at=None)
    BulkEdit.objects.update(status=BulkEditStatus.RUNNING)
    is_retried = Event()

    def retry() -> None:
        try:
            with transaction.atomic():
                edits.retry(edit=bulk_edit.edits.get(), actor=alice)
                is_retried.set()
                time.sleep(0.5)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        retried = pool.submit(retry)
        is_retried.wait(10)
        bulk_edits.advance_statuses()  # Does not see the edit yet, since it is retried in another transaction.
        retried.result(10)
    assert statuses(push_until_settled(bulk_edit)) == {"applied": 1}


def test_resumed_edits_belong_to_the_user_who_resumes(twelve_runs: list[Run], alice: User, bob: User) -> None:
    bulk_edit = apply(plan_for(alice, *twelve_runs[:3], canary=1), alice)
    alice.is_active = False
    alice.save()
    bulk_edit = push_until_settled(bulk_edits.resume(bulk_edit=bulk_edit, actor=bob))
    assert statuses(bulk_edit) == {"applied": 3}
    assert set(bulk_edit.edits.order_by("pk").values_list("actor__username", flat=True)) == {"alice", "bob"}
