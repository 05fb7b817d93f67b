"""Pagers: ways in which servers list the runs of a thread. Lists of READABLE pagers can be read completely."""

import random
from collections.abc import Callable

from runsadmin.models import Thread
from tests.fake_upstream import FakeUpstream, Json, Request, Response, error_response, list_response, not_found
from tests.sandbox_client import make_run

THREAD = "thread_a"
CLAMP = 20  # A page has at most this many runs, whatever limit is requested.
type Query = dict[str, str]
# Returns one page of a thread's runs. It is given all of them, in the requested order.
type Pager = Callable[[list[Json], Query], Response]


def make_runs(count: int, thread_id: str = THREAD, **fields: object) -> list[Json]:
    return [
        make_run(id=f"{thread_id}_{number:03}", thread_id=thread_id, created_at=1_700_000_000 + number, **fields)
        for number in range(count)
    ]


def put_runs(upstream: FakeUpstream, count: int, pager: Pager | None = None) -> Thread:
    """Stores `count` runs upstream, in one thread that `pager` lists."""
    upstream.put(*make_runs(count))
    if pager is not None:
        use_pager(upstream, pager)
    return Thread.objects.get_or_create(connection="default", upstream_id=THREAD)[0]


def use_pager(upstream: FakeUpstream, pager: Pager) -> None:
    def override(request: Request) -> Response | None:
        if not request.is_list:
            return None
        runs = upstream.in_thread(request.parts[1], order=request.query.get("order", "desc"))
        return pager(runs, dict(request.query))

    upstream.override(override)


def start_of(runs: list[Json], query: Query) -> int:
    ids = [run["id"] for run in runs]
    return ids.index(query["after"]) + 1 if "after" in query else 0


def make_page(runs: list[Json], query: Query, size: int = CLAMP, **envelope: object) -> Response:
    """A page of at most `size` runs. Members of the envelope can be replaced, or left out with `...`."""
    start = start_of(runs, query)
    page = runs[start : start + min(size, int(query["limit"]))]
    body = list_response(page, has_more=start + len(page) < len(runs)).body | envelope
    return Response(200, {name: value for name, value in body.items() if value is not ...})


# --- Pagers whose lists can be read completely


def clamped(runs: list[Json], query: Query) -> Response:
    return make_page(runs, query, has_more=...)


def bare_envelope(runs: list[Json], query: Query) -> Response:
    return Response(200, {"data": make_page(runs, query).body["data"]})


def never_has_more(runs: list[Json], query: Query) -> Response:
    return make_page(runs, query, has_more=False)


def has_more_as_text(runs: list[Json], query: Query) -> Response:
    return make_page(runs, query, has_more="false")


def always_has_more(runs: list[Json], query: Query) -> Response:
    return make_page(runs, query, has_more=True, last_id=None)


def misreads_after(runs: list[Json], query: Query) -> Response:
    """If newest first is requested, `after` means "newer than"."""
    if "after" not in query or query["order"] == "asc":
        return make_page(runs, query)
    return list_response(runs[: start_of(runs, query) - 1][:CLAMP], has_more=True)


def skips_when_newest_first(runs: list[Json], query: Query) -> Response:
    """If newest first is requested, `after` counts from the other end."""
    if "after" not in query or query["order"] == "asc":
        return make_page(runs, query)
    return list_response(runs[-start_of(runs, query) :][:CLAMP], has_more=False)


def inclusive(runs: list[Json], query: Query) -> Response:
    start = max(0, start_of(runs, query) - 1)
    return Response(200, {"data": runs[start : start + CLAMP]})


def inclusive_and_has_more(runs: list[Json], query: Query) -> Response:
    start = max(0, start_of(runs, query) - 1)
    return list_response(runs[start : start + CLAMP], has_more=True)


def limit_ignored(runs: list[Json], query: Query) -> Response:
    return make_page(runs, query | {"limit": "1000"}, size=1000)


def limit_refused(runs: list[Json], query: Query) -> Response:
    if int(query["limit"]) > 50:
        return error_response(422, "ensure this value is less than or equal to 50")
    return make_page(runs, query, size=50)


def missing_past_the_end(runs: list[Json], query: Query) -> Response:
    if start_of(runs, query) == len(runs):
        return not_found("page", "2")
    return make_page(runs, query, has_more=...)


def refuses_past_the_end(runs: list[Json], query: Query) -> Response:
    if start_of(runs, query) == len(runs):
        return error_response(400, "Invalid cursor.")
    return make_page(runs, query, has_more=...)


def null_past_the_end(runs: list[Json], query: Query) -> Response:
    response = make_page(runs, query, has_more=...)
    return Response(200, response.body | {"data": response.body["data"] or None})


def short_in_the_middle(runs: list[Json], query: Query) -> Response:
    """The third page is shorter than the others but not the last one. All pages have `has_more: false`."""
    return make_page(runs, query, size=17 if start_of(runs, query) == 2 * CLAMP else CLAMP, has_more=False)


def empty_in_the_middle(runs: list[Json], query: Query) -> Response:
    """Each page is followed by an empty one, with the cursor of the next page."""
    cursor = query.get("after", "")
    if cursor and not cursor.startswith("cursor-"):
        start = start_of(runs, query)
        more = start < len(runs)
        return Response(200, {"data": [], "has_more": more, "last_id": f"cursor-{cursor}" if more else None})
    return make_page(runs, query | {"after": cursor.removeprefix("cursor-")} if cursor else query, has_more=True)


def each_run_twice(runs: list[Json], query: Query) -> Response:
    response = make_page(runs, query, has_more=...)
    return Response(200, response.body | {"data": [run for run in response.body["data"] for _ in range(2)]})


def oldest_first(runs: list[Json], query: Query) -> Response:
    return make_page(sorted(runs, key=lambda run: run["created_at"]), query)


def each_page_ascending(runs: list[Json], query: Query) -> Response:
    response = make_page(runs, query)
    data = sorted(response.body["data"], key=lambda run: run["created_at"])
    return list_response(data, has_more=response.body["has_more"])


def skips_one(runs: list[Json], query: Query) -> Response:
    """If newest first is requested, each page begins one run too late."""
    if "after" not in query or query["order"] == "asc":
        return make_page(runs, query)
    return list_response(runs[start_of(runs, query) + 1 :][:CLAMP], has_more=True)


def compares_seconds(runs: list[Json], query: Query) -> Response:
    """`after` stands for the creation time of its run, so that other runs of the same second are skipped."""
    if "after" in query:
        (then,) = (run["created_at"] for run in runs if run["id"] == query["after"])
        is_beyond = then.__lt__ if query["order"] == "asc" else then.__gt__
        runs = [run for run in runs if is_beyond(run["created_at"])]
    return list_response(runs[:CLAMP])


def shuffles_runs_of_a_second(runs: list[Json], query: Query) -> Response:
    """Runs of the same second are in another order each time."""
    random.shuffle(runs)
    runs.sort(key=lambda run: run["created_at"], reverse=query["order"] == "desc")
    return make_page(runs, query, has_more=...)


READABLE = {
    "skips a run": skips_one,
    "compares seconds": compares_seconds,
    "shuffles runs of a second": shuffles_runs_of_a_second,
    "clamped, without has_more": clamped,
    "only data": bare_envelope,
    "has_more is always false": never_has_more,
    "has_more is text": has_more_as_text,
    "has_more is always true": always_has_more,
    "after is newer than": misreads_after,
    "after counts from the other end": skips_when_newest_first,
    "after is inclusive": inclusive,
    "after is inclusive and has_more is true": inclusive_and_has_more,
    "limit is ignored": limit_ignored,
    "limit over 50 is refused": limit_refused,
    "404 past the end": missing_past_the_end,
    "400 past the end": refuses_past_the_end,
    "null past the end": null_past_the_end,
    "short page in the middle": short_in_the_middle,
    "empty pages in the middle": empty_in_the_middle,
    "each run twice": each_run_twice,
    "oldest first": oldest_first,
    "each page ascending": each_page_ascending,
}


# --- Pagers whose lists cannot be read completely


def first_page_only(runs: list[Json], query: Query) -> Response:
    return list_response(runs[:CLAMP], has_more=False)


def newest_page_only(runs: list[Json], query: Query) -> Response:
    return list_response(sorted(runs, key=lambda run: -run["created_at"])[:CLAMP], has_more=False)


def misreads_both_ways(runs: list[Json], query: Query) -> Response:
    """Compares `after` only with hashes of the ids, so that the order of the runs has no effect."""
    matching = [run for run in runs if hash_of(run["id"]) > hash_of(query.get("after", ""))]
    return list_response(matching[:CLAMP], has_more=len(matching) > CLAMP)


def hash_of(run_id: str) -> int:
    return int(run_id.rpartition("_")[2]) * 41 % 137 if run_id else -1


def refuses_cursors(runs: list[Json], query: Query) -> Response:
    if "after" in query:
        return error_response(422, "after: value is not a valid integer")
    return make_page(runs, query)


def promises_more(runs: list[Json], query: Query) -> Response:
    if "after" in query:
        return Response(200, {"data": runs[start_of(runs, query) - 1 :][:1], "has_more": True})
    return make_page(runs, query)


def without_ids(runs: list[Json], query: Query) -> Response:
    if "after" in query:
        return Response(200, {"data": [{"status": "completed"}], "has_more": True})
    return make_page(runs, query)


def repeats_forty_runs(runs: list[Json], query: Query) -> Response:
    start = start_of(runs, query)
    return list_response((runs[:40] * 3)[start : start + CLAMP], has_more=True)


# Each with the number of runs that can be read, if it is always the same.
BROKEN = {
    "after is ignored": (first_page_only, 40),
    "after and order are ignored": (newest_page_only, 20),
    "after is misread in both orders": (misreads_both_ways, None),
    "after is refused": (refuses_cursors, 40),
    "more is promised but not listed": (promises_more, 40),
    "a page without ids": (without_ids, 40),
    "the list repeats": (repeats_forty_runs, 80),
}
