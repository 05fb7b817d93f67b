"""Servers that page in unusual ways: a sync either mirrors every run or reports an error."""

import datetime as dt
import time

import pytest
from django.utils import timezone

from runsadmin.models import ConnectionState, Run, Sync, Thread
from runsadmin.services import syncs
from tests.fake_upstream import FakeUpstream, Json, Response, error_response, list_response
from tests.quirks.conftest import run_by_tasks, sync
from tests.quirks.pagers import (
    BROKEN,
    CLAMP,
    READABLE,
    THREAD,
    Pager,
    Query,
    clamped,
    compares_seconds,
    each_page_ascending,
    first_page_only,
    inclusive,
    make_page,
    make_runs,
    misreads_after,
    never_has_more,
    oldest_first,
    promises_more,
    put_runs,
    refuses_cursors,
    repeats_forty_runs,
    shuffles_runs_of_a_second,
    use_pager,
)
from tests.sandbox_client import make_run

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("pager", READABLE.values(), ids=READABLE)
@pytest.mark.parametrize("count", [1, 3, 60, 137])
def test_every_run_is_mirrored(upstream: FakeUpstream, pager: Pager, count: int) -> None:
    thread = put_runs(upstream, count, pager)
    done = sync(thread)
    assert [error.message for error in done.errors.all()] == []
    assert (done.status, done.runs_seen, Run.objects.count()) == (Sync.Status.COMPLETED, count, count)
    thread.refresh_from_db()
    assert thread.fully_checked_at is not None
    if pager not in (oldest_first, each_page_ascending):
        assert thread.watermark == f"{THREAD}_{count - 1:03}"


@pytest.mark.parametrize("pager", READABLE.values(), ids=READABLE)
def test_incremental_sync_finds_new_runs(upstream: FakeUpstream, pager: Pager) -> None:
    thread = put_runs(upstream, 60, pager)
    sync(thread)
    upstream.put(*make_runs(65)[60:])
    done = sync(Thread.objects.get(), Sync.Kind.INCREMENTAL)
    assert (done.status, Run.objects.count()) == (Sync.Status.COMPLETED, 65)


@pytest.mark.parametrize("runs_per_second", [2, 3, 7])
@pytest.mark.parametrize(
    "pager", [compares_seconds, shuffles_runs_of_a_second, clamped, never_has_more, inclusive, oldest_first]
)
def test_runs_of_one_second_are_mirrored(upstream: FakeUpstream, pager: Pager, runs_per_second: int) -> None:
    thread = put_runs(upstream, 137, pager)
    for number, run in enumerate(upstream.runs.values()):
        run["created_at"] = 1_700_000_000 + number // runs_per_second
    done = sync(thread)
    assert (done.status, Run.objects.count()) == (Sync.Status.COMPLETED, 137)


@pytest.mark.parametrize(("pager", "count"), BROKEN.values(), ids=BROKEN)
def test_incomplete_list_is_an_error(upstream: FakeUpstream, pager: Pager, count: int | None) -> None:
    thread = put_runs(upstream, 137)
    sync(thread)
    Thread.objects.update(watermark="", fully_checked_at=None)
    Run.objects.filter(upstream_id__gte=f"{THREAD}_130").delete()
    use_pager(upstream, pager)
    done = sync(thread)
    assert done.status == Sync.Status.COMPLETED_WITH_ERRORS
    message = done.errors.latest("pk").message
    assert "could not be read to its end" in message
    if count is not None:
        assert f"Runs read: {count}." in message
    thread.refresh_from_db()
    assert (thread.fully_checked_at, thread.watermark) == (None, "")
    assert not Run.objects.exclude(missing_since=None).exists()


@pytest.mark.parametrize("pager", [first_page_only, refuses_cursors, promises_more])
def test_short_thread_is_read_from_both_ends(upstream: FakeUpstream, pager: Pager) -> None:
    done = sync(put_runs(upstream, 30, pager))
    assert (done.status, Run.objects.count()) == (Sync.Status.COMPLETED, 30)


def test_unordered_runs_of_one_second_are_an_error(upstream: FakeUpstream) -> None:
    """If all runs share one second, any 20 of them can be the first page."""
    thread = put_runs(upstream, 0)
    upstream.put(*(run | {"created_at": 1_700_000_000} for run in make_runs(30)))

    def pager(runs: list[Json], query: Query) -> Response:
        start = 5 if query["order"] == "asc" else 0
        return list_response(sorted(runs, key=lambda run: run["id"])[start : start + CLAMP])

    use_pager(upstream, pager)
    assert "could not be read to its end" in sync(thread).errors.get().message


# --- What is stored about a connection


def test_last_page_smaller_than_largest_is_trusted(upstream: FakeUpstream) -> None:
    """`has_more: false` is trusted if the server has returned larger pages than this one."""
    thread = put_runs(upstream, 137, never_has_more)
    sync(thread)
    upstream.clear_overrides()
    upstream.put(*make_runs(3, "thread_b"))
    ConnectionState.objects.update(has_more_is_wrong=False)
    upstream.log.clear()
    done = sync(Thread.objects.create(connection="default", upstream_id="thread_b"))
    assert (done.status, done.runs_seen, len(upstream.log)) == (Sync.Status.COMPLETED, 3, 1)


def test_wrong_has_more_is_remembered(upstream: FakeUpstream) -> None:
    """After a wrong `has_more: false`, a short first page of the next thread is not taken for the last one."""
    sync(put_runs(upstream, 60, never_has_more))
    upstream.put(*make_runs(40, "thread_b"))
    use_pager(
        upstream, lambda runs, query: make_page(runs, query, size=CLAMP if "after" in query else 17, has_more=False)
    )
    done = sync(Thread.objects.create(connection="default", upstream_id="thread_b"))
    assert (done.status, done.runs_seen) == (Sync.Status.COMPLETED, 40)


def test_thread_is_read_oldest_first_if_necessary(upstream: FakeUpstream) -> None:
    thread = put_runs(upstream, 137, misreads_after)
    sync(thread)
    assert ConnectionState.objects.get().oldest_first
    upstream.log.clear()
    sync(thread)
    assert [request.query["order"] for request in upstream.requests()][:2] == ["desc", "asc"]


def test_repaired_server_is_read_newest_first(upstream: FakeUpstream) -> None:
    sync(put_runs(upstream, 60, misreads_after))
    upstream.clear_overrides()
    done = sync()
    assert done.status == Sync.Status.COMPLETED
    assert {request.query["order"] for request in upstream.requests()[-2:]} == {"desc"}
    assert not ConnectionState.objects.get().oldest_first


@pytest.mark.parametrize("known", [1, 5, 40])
def test_oldest_run_is_not_a_watermark(upstream: FakeUpstream, known: int) -> None:
    """The watermark was set before the wrong order was noticed."""
    thread = put_runs(upstream, known, oldest_first)
    sync(thread)
    Thread.objects.update(watermark=f"{THREAD}_000")
    upstream.put(*make_runs(65))
    done = sync(Thread.objects.get(), Sync.Kind.INCREMENTAL)
    assert (done.status, Run.objects.count()) == (Sync.Status.COMPLETED, 65)
    assert Thread.objects.get().watermark == ""


def test_wrong_order_within_one_second_is_noticed(upstream: FakeUpstream) -> None:
    """The times do not reveal the wrong order, but unknown runs after the watermark do."""
    thread = put_runs(upstream, 5)
    for run in upstream.runs.values():
        run["created_at"] = 1_700_000_000
    use_pager(upstream, lambda runs, query: make_page(sorted(runs, key=lambda run: run["id"]), query))
    sync(thread)
    upstream.put(*(run | {"created_at": 1_700_000_000} for run in make_runs(45)))
    done = sync(Thread.objects.get(), Sync.Kind.INCREMENTAL)
    assert (done.status, Run.objects.count()) == (Sync.Status.COMPLETED, 45)


# --- Between two pages


@pytest.mark.parametrize("status", [404, 400, 410])
@pytest.mark.parametrize(
    ("deleted", "orders"),
    [(range(41, 42), {"desc"}), (range(40, 42), {"desc", "asc"}), (range(23, 43), {"desc", "asc"})],
    ids=["not the cursor", "the cursor", "the cursor and its neighbors"],
)
def test_deleted_runs_do_not_stop_the_sync(
    upstream: FakeUpstream, status: int, deleted: range, orders: set[str]
) -> None:
    """Runs are deleted between the first page, which ends with run 40, and the second one."""
    thread = put_runs(upstream, 60)

    def pager(runs: list[Json], query: Query) -> Response:
        if "after" in query:
            for number in deleted:
                upstream.runs.pop(f"{THREAD}_{number:03}", None)
            if query["after"] not in upstream.runs:
                return error_response(status, f"No run found with id '{query['after']}'.")
        return make_page([run for run in runs if run["id"] in upstream.runs], query)

    sync(thread)
    use_pager(upstream, pager)
    upstream.log.clear()
    assert sync(thread).status == Sync.Status.COMPLETED
    assert Thread.objects.get().missing_since is None
    assert {request.query["order"] for request in upstream.requests() if request.is_list} == orders
    sync(thread)
    assert Run.objects.filter(missing_since=None).count() == 60 - len(deleted)


def test_run_that_arrives_between_pages_is_found(upstream: FakeUpstream) -> None:
    thread = put_runs(upstream, 60)

    def pager(runs: list[Json], query: Query) -> Response:
        if "after" in query:
            upstream.put(*make_runs(61)[60:])
        return make_page(runs, query)

    use_pager(upstream, pager)
    assert sync(thread).status == Sync.Status.COMPLETED
    done = sync(Thread.objects.get(), Sync.Kind.INCREMENTAL)
    assert (done.runs_created, Run.objects.count()) == (1, 61)


# --- A sync that takes several tasks


def endless(runs: list[Json], query: Query) -> Response:
    """Lists one run per page, and always has another one."""
    number = int(query.get("after", f"{THREAD}_9000").rpartition("_")[2]) - 1
    run = make_run(id=f"{THREAD}_{number:04}", thread_id=THREAD, created_at=1_700_000_000 + number)
    return list_response([run], has_more=True)


def test_task_of_an_endless_list_ends(upstream: FakeUpstream) -> None:
    thread = put_runs(upstream, 1, endless)
    started = syncs.start(connection="default", kind=Sync.Kind.FULL, actor=None, thread=thread)
    began = time.monotonic()
    tasks = [syncs.run(started, until=time.monotonic() + 0.1) for _ in range(2)]
    assert time.monotonic() - began < 3
    assert tasks[0].status == tasks[1].status == Sync.Status.RUNNING
    assert 0 < tasks[0].pages < tasks[1].pages == Run.objects.count()


@pytest.mark.parametrize("pager", [clamped, misreads_after, inclusive, oldest_first])
def test_thread_is_read_by_many_tasks(upstream: FakeUpstream, pager: Pager) -> None:
    """Each task reads one page, and the last one notices that a run is missing."""
    thread = put_runs(upstream, 90)
    sync(thread)
    del upstream.runs[f"{THREAD}_050"]
    use_pager(upstream, pager)
    done = run_by_tasks(syncs.start(connection="default", kind=Sync.Kind.FULL, actor=None, thread=thread))
    assert (done.status, done.runs_seen) == (Sync.Status.COMPLETED, 89)
    assert Run.objects.exclude(missing_since=None).get().upstream_id == f"{THREAD}_050"
    assert (done.reading, done.cursor, done.oldest_first) == ("", "", False)


def test_repeating_list_ends_across_tasks(upstream: FakeUpstream) -> None:
    thread = put_runs(upstream, 90, repeats_forty_runs)
    done = run_by_tasks(syncs.start(connection="default", kind=Sync.Kind.FULL, actor=None, thread=thread))
    assert "could not be read to its end" in done.errors.get().message


def test_reading_oldest_first_starts_again(upstream: FakeUpstream) -> None:
    """A process that dies while reading oldest first loses its progress, so the thread is read again from the start."""
    thread = put_runs(upstream, 60, misreads_after)
    started = syncs.start(connection="default", kind=Sync.Kind.FULL, actor=None, thread=thread)
    Sync.objects.update(
        status=Sync.Status.RUNNING,
        cursor=f"{THREAD}_019",
        oldest_first=True,
        claimed_until=timezone.now() - dt.timedelta(seconds=1),
    )
    done = syncs.run(started, until=time.monotonic() + 60)
    assert (done.status, Run.objects.count()) == (Sync.Status.COMPLETED, 60)
