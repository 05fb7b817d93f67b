"""Servers that page in their own ways: either every run is mirrored, or the sync reports an error."""

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
    cut,
    each_page_ascending,
    first_page_only,
    inclusive,
    make_runs,
    misreads_after,
    more_but_none,
    never_has_more,
    oldest_first,
    put,
    refuses_cursors,
    round_and_round,
    shuffles_seconds,
    use,
)
from tests.sandbox_client import make_run

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("pager", READABLE.values(), ids=READABLE)
@pytest.mark.parametrize("count", [1, 3, 60, 137])
def test_every_run_is_mirrored(upstream: FakeUpstream, pager: Pager, count: int) -> None:
    thread = put(upstream, count, pager)
    done = sync(thread)
    assert [error.message for error in done.errors.all()] == []
    assert (done.status, done.runs_seen, Run.objects.count()) == (Sync.Status.COMPLETED, count, count)
    thread.refresh_from_db()
    assert thread.fully_checked_at is not None
    if pager not in (oldest_first, each_page_ascending):
        assert thread.watermark == f"{THREAD}_{count - 1:03}"


@pytest.mark.parametrize("pager", READABLE.values(), ids=READABLE)
def test_incremental_sync_finds_new_runs(upstream: FakeUpstream, pager: Pager) -> None:
    thread = put(upstream, 60, pager)
    sync(thread)
    upstream.put(*make_runs(65)[60:])
    done = sync(Thread.objects.get(), Sync.Kind.INCREMENTAL)
    assert (done.status, Run.objects.count()) == (Sync.Status.COMPLETED, 65)


@pytest.mark.parametrize("together", [2, 3, 7])
@pytest.mark.parametrize(
    "pager", [compares_seconds, shuffles_seconds, clamped, never_has_more, inclusive, oldest_first]
)
def test_runs_of_one_second_are_mirrored(upstream: FakeUpstream, pager: Pager, together: int) -> None:
    """This many runs were created in each second."""
    thread = put(upstream, 137, pager)
    for number, run in enumerate(upstream.runs.values()):
        run["created_at"] = 1_700_000_000 + number // together
    done = sync(thread)
    assert (done.status, Run.objects.count()) == (Sync.Status.COMPLETED, 137)


@pytest.mark.parametrize(("pager", "count"), BROKEN.values(), ids=BROKEN)
def test_endless_list_is_an_error(upstream: FakeUpstream, pager: Pager, count: int | None) -> None:
    thread = put(upstream, 137)
    sync(thread)
    Thread.objects.update(watermark="", fully_checked_at=None)
    Run.objects.filter(upstream_id__gte=f"{THREAD}_130").delete()
    use(upstream, pager)
    done = sync(thread)
    assert done.status == Sync.Status.COMPLETED_WITH_ERRORS
    message = done.errors.latest("pk").message
    assert "could not be read to its end" in message
    if count is not None:
        assert f"{count} runs were read" in message
    thread.refresh_from_db()
    assert (thread.fully_checked_at, thread.watermark) == (None, "")
    assert not Run.objects.exclude(missing_since=None).exists()


@pytest.mark.parametrize("pager", [first_page_only, refuses_cursors, more_but_none])
def test_short_thread_is_read_from_both_ends(upstream: FakeUpstream, pager: Pager) -> None:
    done = sync(put(upstream, 30, pager))
    assert (done.status, Run.objects.count()) == (Sync.Status.COMPLETED, 30)


def test_runs_of_one_second_prove_nothing(upstream: FakeUpstream) -> None:
    """If all share one second, any 20 runs may come first."""
    thread = put(upstream, 0)
    upstream.put(*(run | {"created_at": 1_700_000_000} for run in make_runs(30)))

    def pager(runs: list[Json], query: Query) -> Response:
        start = 5 if query["order"] == "asc" else 0
        return list_response(sorted(runs, key=lambda run: run["id"])[start : start + CLAMP])

    use(upstream, pager)
    assert "could not be read to its end" in sync(thread).errors.get().message


# --- What is remembered about a connection


def test_last_page_below_largest_is_trusted(upstream: FakeUpstream) -> None:
    """`has_more: false` is trusted where this server has served larger pages than this one."""
    thread = put(upstream, 137, never_has_more)
    sync(thread)
    upstream.clear_overrides()
    upstream.put(*make_runs(3, "thread_b"))
    ConnectionState.objects.update(has_more_is_wrong=False)
    upstream.log.clear()
    done = sync(Thread.objects.create(connection="default", upstream_id="thread_b"))
    assert (done.status, done.runs_seen, len(upstream.log)) == (Sync.Status.COMPLETED, 3, 1)


def test_wrong_has_more_is_remembered(upstream: FakeUpstream) -> None:
    """Once a page wrongly claimed to be the last one, the next thread's short first page proves nothing."""
    sync(put(upstream, 60, never_has_more))
    upstream.put(*make_runs(40, "thread_b"))
    use(upstream, lambda runs, query: cut(runs, query, size=CLAMP if "after" in query else 17, has_more=False))
    done = sync(Thread.objects.create(connection="default", upstream_id="thread_b"))
    assert (done.status, done.runs_seen) == (Sync.Status.COMPLETED, 40)


def test_misread_after_reads_oldest_first(upstream: FakeUpstream) -> None:
    thread = put(upstream, 137, misreads_after)
    sync(thread)
    assert ConnectionState.objects.get().oldest_first
    upstream.log.clear()
    sync(thread)
    assert [request.query["order"] for request in upstream.requests()][:2] == ["desc", "asc"]


def test_repaired_server_is_read_newest_first(upstream: FakeUpstream) -> None:
    sync(put(upstream, 60, misreads_after))
    upstream.clear_overrides()
    done = sync()
    assert done.status == Sync.Status.COMPLETED
    assert {request.query["order"] for request in upstream.requests()[-2:]} == {"desc"}
    assert not ConnectionState.objects.get().oldest_first


@pytest.mark.parametrize("known", [1, 5, 40])
def test_oldest_run_is_no_watermark(upstream: FakeUpstream, known: int) -> None:
    """A mirror whose watermark was set before the order was noticed."""
    thread = put(upstream, known, oldest_first)
    sync(thread)
    Thread.objects.update(watermark=f"{THREAD}_000")
    upstream.put(*make_runs(65))
    done = sync(Thread.objects.get(), Sync.Kind.INCREMENTAL)
    assert (done.status, Run.objects.count()) == (Sync.Status.COMPLETED, 65)
    assert Thread.objects.get().watermark == ""


def test_watermark_in_page_of_one_second(upstream: FakeUpstream) -> None:
    """The times do not show that the order is wrong. Unknown runs behind the watermark do."""
    thread = put(upstream, 5)
    for run in upstream.runs.values():
        run["created_at"] = 1_700_000_000
    use(upstream, lambda runs, query: cut(sorted(runs, key=lambda run: run["id"]), query))
    sync(thread)
    upstream.put(*(run | {"created_at": 1_700_000_000} for run in make_runs(45)))
    done = sync(Thread.objects.get(), Sync.Kind.INCREMENTAL)
    assert (done.status, Run.objects.count()) == (Sync.Status.COMPLETED, 45)


# --- Between two pages


@pytest.mark.parametrize("status", [404, 400, 410])
@pytest.mark.parametrize("gone", [1, 2, 20])
def test_cursor_whose_run_was_deleted(upstream: FakeUpstream, status: int, gone: int) -> None:
    """This many of the last runs of the first page are deleted before the second one is requested."""
    thread = put(upstream, 60)

    def pager(runs: list[Json], query: Query) -> Response:
        if "after" in query:
            for number in range(42 - gone, 42):
                upstream.runs.pop(f"{THREAD}_{number + 1 - (gone < 20):03}", None)
            if query["after"] not in upstream.runs:
                return error_response(status, f"No run found with id '{query['after']}'.")
        return cut([run for run in runs if run["id"] in upstream.runs], query)

    sync(thread)
    use(upstream, pager)
    upstream.log.clear()
    assert sync(thread).status == Sync.Status.COMPLETED
    assert Thread.objects.get().missing_since is None
    orders = {request.query["order"] for request in upstream.requests() if request.is_list}
    assert orders == ({"desc"} if gone == 1 else {"desc", "asc"})
    sync(thread)
    assert Run.objects.filter(missing_since=None).count() == 60 - gone


def test_run_arriving_between_two_pages(upstream: FakeUpstream) -> None:
    thread = put(upstream, 60)

    def pager(runs: list[Json], query: Query) -> Response:
        if "after" in query:
            upstream.put(*make_runs(61)[60:])
        return cut(runs, query)

    use(upstream, pager)
    assert sync(thread).status == Sync.Status.COMPLETED
    done = sync(Thread.objects.get(), Sync.Kind.INCREMENTAL)
    assert (done.runs_created, Run.objects.count()) == (1, 61)


# --- A sync by many tasks


def endless(runs: list[Json], query: Query) -> Response:
    """There is always another run."""
    number = int(query.get("after", f"{THREAD}_9000").rpartition("_")[2]) - 1
    run = make_run(id=f"{THREAD}_{number:04}", thread_id=THREAD, created_at=1_700_000_000 + number)
    return list_response([run], has_more=True)


def test_task_of_an_endless_list_ends(upstream: FakeUpstream) -> None:
    thread = put(upstream, 1, endless)
    started = syncs.start(connection="default", kind=Sync.Kind.FULL, actor=None, thread=thread)
    began = time.monotonic()
    tasks = [syncs.run(started, until=time.monotonic() + 0.1) for _ in range(2)]
    assert time.monotonic() - began < 3
    assert tasks[0].status == tasks[1].status == Sync.Status.RUNNING
    assert 0 < tasks[0].pages < tasks[1].pages == Run.objects.count()


@pytest.mark.parametrize("pager", [clamped, misreads_after, inclusive, oldest_first])
def test_thread_is_read_by_many_tasks(upstream: FakeUpstream, pager: Pager) -> None:
    """Each task reads one page, and the last one still knows what is missing."""
    thread = put(upstream, 90)
    sync(thread)
    del upstream.runs[f"{THREAD}_050"]
    use(upstream, pager)
    done = run_by_tasks(syncs.start(connection="default", kind=Sync.Kind.FULL, actor=None, thread=thread))
    assert (done.status, done.runs_seen) == (Sync.Status.COMPLETED, 89)
    assert Run.objects.exclude(missing_since=None).get().upstream_id == f"{THREAD}_050"
    assert (done.reading, done.cursor, done.oldest_first) == ("", "", False)


def test_repeating_list_ends_across_tasks(upstream: FakeUpstream) -> None:
    thread = put(upstream, 90, round_and_round)
    done = run_by_tasks(syncs.start(connection="default", kind=Sync.Kind.FULL, actor=None, thread=thread))
    assert "could not be read to its end" in done.errors.get().message


def test_process_dies_reading_oldest_first(upstream: FakeUpstream) -> None:
    """What it had read is lost with the process, so the thread is read from its start."""
    thread = put(upstream, 60, misreads_after)
    started = syncs.start(connection="default", kind=Sync.Kind.FULL, actor=None, thread=thread)
    Sync.objects.update(
        status=Sync.Status.RUNNING,
        cursor=f"{THREAD}_019",
        oldest_first=True,
        claimed_until=timezone.now() - dt.timedelta(seconds=1),
    )
    done = syncs.run(started, until=time.monotonic() + 60)
    assert (done.status, Run.objects.count()) == (Sync.Status.COMPLETED, 60)
