"""A page over the size limit is read in smaller pages, and a run over the limit is reported."""

import pytest
from pytest_django import Settings

from runsadmin.models import Run, Sync, Thread
from tests.fake_upstream import FakeUpstream, Json, Request, Response
from tests.quirks.conftest import sync
from tests.quirks.pagers import THREAD, make_page, make_runs, use_pager
from tests.sandbox_client import make_run

pytestmark = pytest.mark.django_db

ALLOWED = 100_000
LARGE = "x" * (ALLOWED // 5)
TOO_LARGE = "x" * (2 * ALLOWED)


@pytest.fixture(autouse=True)
def response_limit(settings: Settings) -> None:
    settings.RUNSADMIN_MAX_RESPONSE_BYTES = ALLOWED


@pytest.fixture
def thread(db: None) -> Thread:
    return Thread.objects.create(connection="default", upstream_id=THREAD)


def put_runs(upstream: FakeUpstream, count: int, oversized: dict[int, Json], instructions: str = "") -> None:
    """Stores `count` runs upstream. `oversized` replaces fields of some runs, by the number of the run."""
    for number, run in enumerate(make_runs(count, instructions=instructions)):
        upstream.put(run | oversized.get(number, {}))


OVERSIZED: Json = {"instructions": TOO_LARGE}

OVERSIZED_RUNS = {
    "the newest": (10, {9: OVERSIZED}),
    "the oldest": (10, {0: OVERSIZED}),
    "one in the middle": (30, {14: OVERSIZED}),
    "two adjacent": (30, {14: OVERSIZED, 15: OVERSIZED}),
    "two apart": (230, {50: OVERSIZED, 200: OVERSIZED}),
    "the only one": (1, {0: OVERSIZED}),
    "in its metadata": (10, {5: {"metadata": {"note": TOO_LARGE}}}),
}


@pytest.mark.parametrize("count", [5, 12, 40])
def test_large_page_is_read_in_parts(upstream: FakeUpstream, thread: Thread, count: int) -> None:
    put_runs(upstream, count, {}, instructions=LARGE)
    done = sync(thread)
    assert (done.status, Run.objects.count()) == (Sync.Status.COMPLETED, count)
    assert {request.query["order"] for request in upstream.requests()} == {"desc"}


@pytest.mark.parametrize("headers", [{}, {"Transfer-Encoding": "chunked"}], ids=["announced", "chunked"])
@pytest.mark.parametrize(("count", "oversized"), OVERSIZED_RUNS.values(), ids=OVERSIZED_RUNS)
def test_oversized_run_is_reported(
    upstream: FakeUpstream, thread: Thread, count: int, oversized: dict[int, Json], headers: dict[str, str]
) -> None:
    put_runs(upstream, count, oversized)
    if headers:
        use_pager(upstream, lambda runs, query: chunked(make_page(runs, query, size=100)))
    done = sync(thread)
    assert done.status == (Sync.Status.COMPLETED_WITH_ERRORS if count > 1 else Sync.Status.FAILED)
    assert {error.run_id for error in done.errors.all()} == {f"{THREAD}_{number:03}" for number in oversized}
    for error in done.errors.all():
        assert error.run_id in error.message
        assert "RUNSADMIN_MAX_RESPONSE_BYTES" in error.message
        assert "the limit is 100,000" in error.message
    assert Run.objects.count() == count - len(oversized)


def chunked(response: Response) -> Response:
    content = response.content
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(content), content)
    return Response(200, body, {"Transfer-Encoding": "chunked", "Content-Length": ""})


def test_run_that_grew_too_large_stays_mirrored(upstream: FakeUpstream, thread: Thread) -> None:
    put_runs(upstream, 10, {})
    sync(thread)
    put_runs(upstream, 10, {4: OVERSIZED})
    done = sync(thread)
    assert [error.run_id for error in done.errors.all()] == [f"{THREAD}_004"]
    assert Run.objects.filter(missing_since=None).count() == 10


@pytest.mark.parametrize("first", ["instructions", "object"])
def test_oversized_run_can_have_its_id_last(upstream: FakeUpstream, thread: Thread, first: str) -> None:
    """The runs before and after a run that cannot be identified are still read."""
    oversized = make_run(id="run_oversized", thread_id=THREAD, created_at=1_700_000_014, **OVERSIZED)
    put_runs(upstream, 30, {})
    upstream.runs[f"{THREAD}_014"] = {
        first: oversized[first],
        **{name: oversized[name] for name in oversized if name != first},
    }
    done = sync(thread)
    error = done.errors.get()
    assert Run.objects.count() == 29
    if first == "instructions":
        assert "could not be read to its end. Runs read: 29." in error.message
        assert "RUNSADMIN_MAX_RESPONSE_BYTES" in error.message
        assert Thread.objects.get().fully_checked_at is None
    else:
        assert error.run_id == "run_oversized"


def test_inclusive_pager_passes_an_oversized_run(upstream: FakeUpstream, thread: Thread) -> None:
    """With an inclusive cursor, pages of one run never advance."""
    put_runs(upstream, 30, {14: OVERSIZED})

    def inclusive(runs: list[Json], query: dict[str, str]) -> Response:
        ids = [run["id"] for run in runs]
        start = ids.index(query["after"]) if "after" in query else 0
        return Response(200, {"data": runs[start : start + int(query["limit"])]})

    use_pager(upstream, inclusive)
    done = sync(thread)
    assert "RUNSADMIN_MAX_RESPONSE_BYTES" in done.errors.get().message
    assert Run.objects.count() == 29


def test_oversized_run_stops_no_other_fetch(upstream: FakeUpstream, thread: Thread) -> None:
    """The list omits metadata, and one run is too large to fetch. The other runs are still fetched."""
    put_runs(upstream, 5, {2: {"metadata": {"note": TOO_LARGE}}})

    def override(request: Request) -> Response | None:
        if not request.is_list:
            return None
        response = upstream.default(request)
        data = [{name: run[name] for name in run if name != "metadata"} for run in response.body["data"]]
        return Response(200, response.body | {"data": data})

    upstream.override(override)
    done = sync(thread)
    assert [error.run_id for error in done.errors.all()] == [f"{THREAD}_002"]
    assert Run.objects.count() == 5
    assert Run.objects.exclude(metadata_state="").get().upstream_id == f"{THREAD}_002"
