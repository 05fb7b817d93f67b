"""Servers that page in their own ways: either every run is mirrored, or the sync says that it is not."""

import datetime as dt
import random
import time
from collections.abc import Callable

import pytest
from django.utils import timezone

from runsadmin.models import ConnectionState, Run, Sync, Thread
from runsadmin.services import syncs
from tests.fake_upstream import FakeUpstream, Json, Request, Response, error_response, list_response, not_found
from tests.quirks.conftest import sync
from tests.sandbox_client import make_run

pytestmark = pytest.mark.django_db

THREAD = "thread_a"
CLAMP = 20

type Query = dict[str, str]
# What a server responds to a list, from all runs of the thread in the order that was asked for.
type Pager = Callable[[list[Json], Query], Response]


def make_runs(count: int, thread_id: str = THREAD, **fields: object) -> list[Json]:
    return [
        make_run(id=f"{thread_id}_{number:03}", thread_id=thread_id, created_at=1_700_000_000 + number, **fields)
        for number in range(count)
    ]


def put(upstream: FakeUpstream, count: int, pager: Pager | None = None) -> Thread:
    """So many runs in one thread, listed by this pager."""
    upstream.put(*make_runs(count))
    if pager is not None:
        use(upstream, pager)
    return Thread.objects.get_or_create(connection="default", upstream_id=THREAD)[0]


def use(upstream: FakeUpstream, pager: Pager) -> None:
    def override(request: Request) -> Response | None:
        if not request.is_list:
            return None
        runs = upstream.in_thread(request.parts[1], order=request.query.get("order", "desc"))
        return pager(runs, dict(request.query))

    upstream.override(override)


def start_of(runs: list[Json], query: Query) -> int:
    ids = [run["id"] for run in runs]
    return ids.index(query["after"]) + 1 if "after" in query else 0


def cut(runs: list[Json], query: Query, size: int = CLAMP, **envelope: object) -> Response:
    """A page of at most `size` runs. The envelope's members can be changed, and are left out where they are `...`."""
    start = start_of(runs, query)
    page = runs[start : start + min(size, int(query["limit"]))]
    body = list_response(page, has_more=start + len(page) < len(runs)).body | envelope
    return Response(200, {name: value for name, value in body.items() if value is not ...})


# --- Pagers whose lists can be read to their end


def clamped(runs: list[Json], query: Query) -> Response:
    return cut(runs, query, has_more=...)


def bare_envelope(runs: list[Json], query: Query) -> Response:
    return Response(200, {"data": cut(runs, query).body["data"]})


def never_has_more(runs: list[Json], query: Query) -> Response:
    return cut(runs, query, has_more=False)


def has_more_as_text(runs: list[Json], query: Query) -> Response:
    return cut(runs, query, has_more="false")


def always_has_more(runs: list[Json], query: Query) -> Response:
    return cut(runs, query, has_more=True, last_id=None)


def misreads_after(runs: list[Json], query: Query) -> Response:
    """Newest first, `after` means newer than."""
    if "after" not in query or query["order"] == "asc":
        return cut(runs, query)
    return list_response(runs[: start_of(runs, query) - 1][:CLAMP], has_more=True)


def skips_when_newest_first(runs: list[Json], query: Query) -> Response:
    """Newest first, `after` counts from the other end."""
    if "after" not in query or query["order"] == "asc":
        return cut(runs, query)
    return list_response(runs[-start_of(runs, query) :][:CLAMP], has_more=False)


def inclusive(runs: list[Json], query: Query) -> Response:
    start = max(0, start_of(runs, query) - 1)
    return Response(200, {"data": runs[start : start + CLAMP]})


def inclusive_with_more(runs: list[Json], query: Query) -> Response:
    start = max(0, start_of(runs, query) - 1)
    return list_response(runs[start : start + CLAMP], has_more=True)


def limit_ignored(runs: list[Json], query: Query) -> Response:
    return cut(runs, query | {"limit": "1000"}, size=1000)


def limit_refused(runs: list[Json], query: Query) -> Response:
    if int(query["limit"]) > 50:
        return error_response(422, "ensure this value is less than or equal to 50")
    return cut(runs, query, size=50)


def missing_past_the_end(runs: list[Json], query: Query) -> Response:
    if start_of(runs, query) == len(runs):
        return not_found("page", "2")
    return cut(runs, query, has_more=...)


def refuses_past_the_end(runs: list[Json], query: Query) -> Response:
    if start_of(runs, query) == len(runs):
        return error_response(400, "Invalid cursor.")
    return cut(runs, query, has_more=...)


def null_past_the_end(runs: list[Json], query: Query) -> Response:
    response = cut(runs, query, has_more=...)
    return Response(200, response.body | {"data": response.body["data"] or None})


def short_in_the_middle(runs: list[Json], query: Query) -> Response:
    """The third page is shorter than the others, as all of them it has `has_more: false`, and it is not the last."""
    return cut(runs, query, size=17 if start_of(runs, query) == 2 * CLAMP else CLAMP, has_more=False)


def empty_in_the_middle(runs: list[Json], query: Query) -> Response:
    """Every page is followed by an empty one, with a cursor of its own that leads on."""
    cursor = query.get("after", "")
    if cursor and not cursor.startswith("cursor-"):
        start = start_of(runs, query)
        more = start < len(runs)
        return Response(200, {"data": [], "has_more": more, "last_id": f"cursor-{cursor}" if more else None})
    return cut(runs, query | {"after": cursor.removeprefix("cursor-")} if cursor else query, has_more=True)


def twice_in_a_page(runs: list[Json], query: Query) -> Response:
    response = cut(runs, query, has_more=...)
    return Response(200, response.body | {"data": [run for run in response.body["data"] for _ in range(2)]})


def oldest_first(runs: list[Json], query: Query) -> Response:
    return cut(sorted(runs, key=lambda run: run["created_at"]), query)


def each_page_ascending(runs: list[Json], query: Query) -> Response:
    response = cut(runs, query)
    data = sorted(response.body["data"], key=lambda run: run["created_at"])
    return list_response(data, has_more=response.body["has_more"])


def skips_one(runs: list[Json], query: Query) -> Response:
    """Newest first, a page begins one too late."""
    if "after" not in query or query["order"] == "asc":
        return cut(runs, query)
    return list_response(runs[start_of(runs, query) + 1 :][:CLAMP], has_more=True)


def compares_seconds(runs: list[Json], query: Query) -> Response:
    """`after` stands for its run's time of creation."""
    if "after" in query:
        (then,) = (run["created_at"] for run in runs if run["id"] == query["after"])
        is_beyond = then.__lt__ if query["order"] == "asc" else then.__gt__
        runs = [run for run in runs if is_beyond(run["created_at"])]
    return list_response(runs[:CLAMP])


def shuffles_seconds(runs: list[Json], query: Query) -> Response:
    """Runs of one second come in another order each time."""
    random.shuffle(runs)
    runs.sort(key=lambda run: run["created_at"], reverse=query["order"] == "desc")
    return cut(runs, query, has_more=...)


READABLE = {
    "skips a run": skips_one,
    "compares seconds": compares_seconds,
    "shuffles seconds": shuffles_seconds,
    "clamped, without has_more": clamped,
    "nothing but data": bare_envelope,
    "has_more is always false": never_has_more,
    "has_more is text": has_more_as_text,
    "has_more is always true": always_has_more,
    "after is newer than": misreads_after,
    "after counts from the other end": skips_when_newest_first,
    "after is inclusive": inclusive,
    "after is inclusive and has_more is true": inclusive_with_more,
    "limit is ignored": limit_ignored,
    "limit over 50 is refused": limit_refused,
    "404 past the end": missing_past_the_end,
    "400 past the end": refuses_past_the_end,
    "null past the end": null_past_the_end,
    "short page in the middle": short_in_the_middle,
    "empty pages in the middle": empty_in_the_middle,
    "each run twice": twice_in_a_page,
    "oldest first": oldest_first,
    "each page ascending": each_page_ascending,
}


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
    """So many runs were created in each second."""
    thread = put(upstream, 137, pager)
    for number, run in enumerate(upstream.runs.values()):
        run["created_at"] = 1_700_000_000 + number // together
    done = sync(thread)
    assert (done.status, Run.objects.count()) == (Sync.Status.COMPLETED, 137)


# --- Pagers whose lists cannot be read to their end


def first_page_only(runs: list[Json], query: Query) -> Response:
    return list_response(runs[:CLAMP], has_more=False)


def newest_page_only(runs: list[Json], query: Query) -> Response:
    return list_response(sorted(runs, key=lambda run: -run["created_at"])[:CLAMP], has_more=False)


def misreads_both_ways(runs: list[Json], query: Query) -> Response:
    """`after` is compared with the ids alone, which are in no order."""
    mixed = [run for run in runs if hash_of(run["id"]) > hash_of(query.get("after", ""))]
    return list_response(mixed[:CLAMP], has_more=len(mixed) > CLAMP)


def hash_of(run_id: str) -> int:
    return int(run_id.rpartition("_")[2]) * 41 % 137 if run_id else -1


def refuses_cursors(runs: list[Json], query: Query) -> Response:
    if "after" in query:
        return error_response(422, "after: value is not a valid integer")
    return cut(runs, query)


def more_but_none(runs: list[Json], query: Query) -> Response:
    if "after" in query:
        return Response(200, {"data": runs[start_of(runs, query) - 1 :][:1], "has_more": True})
    return cut(runs, query)


def without_ids(runs: list[Json], query: Query) -> Response:
    if "after" in query:
        return Response(200, {"data": [{"status": "completed"}], "has_more": True})
    return cut(runs, query)


def round_and_round(runs: list[Json], query: Query) -> Response:
    start = start_of(runs, query)
    return list_response((runs[:40] * 3)[start : start + CLAMP], has_more=True)


BROKEN = {
    "after is ignored": (first_page_only, 40),
    "after and order are ignored": (newest_page_only, 20),
    "after is misread in both orders": (misreads_both_ways, None),
    "after is refused": (refuses_cursors, 40),
    "more is promised and not shown": (more_but_none, 40),
    "a page without ids": (without_ids, 40),
    "round and round": (round_and_round, 80),
}


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
        assert f"{count} runs read" in message
    thread.refresh_from_db()
    assert (thread.fully_checked_at, thread.watermark) == (None, "")
    assert not Run.objects.exclude(missing_since=None).exists()


@pytest.mark.parametrize("pager", [first_page_only, refuses_cursors, more_but_none])
def test_short_thread_is_read_from_both_ends(upstream: FakeUpstream, pager: Pager) -> None:
    done = sync(put(upstream, 30, pager))
    assert (done.status, Run.objects.count()) == (Sync.Status.COMPLETED, 30)


def test_runs_of_one_second_prove_nothing(upstream: FakeUpstream) -> None:
    """Sorted by a second that all share, any 20 runs may come first."""
    thread = put(upstream, 0)
    upstream.put(*(run | {"created_at": 1_700_000_000} for run in make_runs(30)))

    def pager(runs: list[Json], query: Query) -> Response:
        start = 5 if query["order"] == "asc" else 0
        return list_response(sorted(runs, key=lambda run: run["id"])[start : start + CLAMP])

    use(upstream, pager)
    assert "could not be read to its end" in sync(thread).errors.get().message


# --- What is remembered of a connection


def test_last_page_below_largest_is_trusted(upstream: FakeUpstream) -> None:
    """`has_more: false` counts where this server has served larger pages than this one."""
    thread = put(upstream, 137, never_has_more)
    sync(thread)
    upstream.clear_overrides()
    upstream.put(*make_runs(3, "thread_b"))
    ConnectionState.objects.update(has_more_is_wrong=False)
    upstream.log.clear()
    done = sync(Thread.objects.create(connection="default", upstream_id="thread_b"))
    assert (done.status, done.runs_seen, len(upstream.log)) == (Sync.Status.COMPLETED, 3, 1)


def test_wrong_has_more_is_remembered(upstream: FakeUpstream) -> None:
    """Once a page said that it was the last one, and was not, the next thread's short first page proves nothing."""
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
    """A mirror whose watermark was set while nobody noticed the order."""
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
    """So many of the last runs of the first page are deleted before the second one is asked for."""
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


# --- Shares


def endless(runs: list[Json], query: Query) -> Response:
    """There is always one run more."""
    number = int(query.get("after", f"{THREAD}_9000").rpartition("_")[2]) - 1
    run = make_run(id=f"{THREAD}_{number:04}", thread_id=THREAD, created_at=1_700_000_000 + number)
    return list_response([run], has_more=True)


def test_task_of_an_endless_list_ends(upstream: FakeUpstream) -> None:
    thread = put(upstream, 1, endless)
    started = syncs.start(connection="default", kind=Sync.Kind.FULL, actor=None, thread=thread)
    began = time.monotonic()
    shares = [syncs.run(started, until=time.monotonic() + 0.1) for _ in range(2)]
    assert time.monotonic() - began < 3
    assert shares[0].status == shares[1].status == Sync.Status.RUNNING
    assert 0 < shares[0].pages < shares[1].pages == Run.objects.count()


@pytest.mark.parametrize("pager", [clamped, misreads_after, inclusive, oldest_first])
def test_thread_is_read_by_many_tasks(upstream: FakeUpstream, pager: Pager) -> None:
    """Each share reads one page, and the last one still knows what is missing."""
    thread = put(upstream, 90)
    sync(thread)
    del upstream.runs[f"{THREAD}_050"]
    use(upstream, pager)
    done = in_shares(syncs.start(connection="default", kind=Sync.Kind.FULL, actor=None, thread=thread))
    assert (done.status, done.runs_seen) == (Sync.Status.COMPLETED, 89)
    assert Run.objects.exclude(missing_since=None).get().upstream_id == f"{THREAD}_050"
    assert (done.reading, done.cursor, done.oldest_first) == ("", "", False)


def test_repeating_list_ends_across_tasks(upstream: FakeUpstream) -> None:
    thread = put(upstream, 90, round_and_round)
    done = in_shares(syncs.start(connection="default", kind=Sync.Kind.FULL, actor=None, thread=thread))
    assert "could not be read to its end" in done.errors.get().message


def in_shares(started: Sync) -> Sync:
    for _ in range(50):
        started = syncs.run(started, until=0)
        if started.status != Sync.Status.RUNNING:
            break
    return started


def test_process_dies_reading_oldest_first(upstream: FakeUpstream) -> None:
    """What the first reading showed is lost with it: the thread is read anew."""
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
