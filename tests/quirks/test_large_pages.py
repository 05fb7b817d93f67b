"""Pages over the size limit are read in smaller ones, and a run over the limit is named."""

import pytest
from pytest_django import Settings

from runsadmin.models import Run, Sync, Thread
from tests.fake_upstream import FakeUpstream, Json, Request, Response
from tests.quirks.conftest import sync
from tests.quirks.pagers import THREAD, cut, make_runs, use
from tests.sandbox_client import make_run

pytestmark = pytest.mark.django_db

ALLOWED = 100_000
LARGE = "x" * (ALLOWED // 5)
TOO_LARGE = "x" * (2 * ALLOWED)


@pytest.fixture(autouse=True)
def allowed(settings: Settings) -> None:
    settings.RUNSADMIN_MAX_RESPONSE_BYTES = ALLOWED


@pytest.fixture
def thread(db: None) -> Thread:
    return Thread.objects.create(connection="default", upstream_id=THREAD)


def put(upstream: FakeUpstream, count: int, too_large: dict[int, Json], instructions: str = "") -> None:
    """This many runs; some of them have other fields, by their numbers."""
    for number, run in enumerate(make_runs(count, instructions=instructions)):
        upstream.put(run | too_large.get(number, {}))


SLIM: Json = {}
FAT: Json = {"instructions": TOO_LARGE}

TOO_LARGE_RUNS = {
    "the newest": (10, {9: FAT}),
    "the oldest": (10, {0: FAT}),
    "one in the middle": (30, {14: FAT}),
    "two beside each other": (30, {14: FAT, 15: FAT}),
    "two apart": (230, {50: FAT, 200: FAT}),
    "the only one": (1, {0: FAT}),
    "in its metadata": (10, {5: {"metadata": {"note": TOO_LARGE}}}),
}


@pytest.mark.parametrize("count", [5, 12, 40])
def test_large_page_is_read_in_parts(upstream: FakeUpstream, thread: Thread, count: int) -> None:
    put(upstream, count, {}, instructions=LARGE)
    done = sync(thread)
    assert (done.status, Run.objects.count()) == (Sync.Status.COMPLETED, count)
    assert {request.query["order"] for request in upstream.requests()} == {"desc"}


@pytest.mark.parametrize("extra", [{}, {"Transfer-Encoding": "chunked"}], ids=["announced", "chunked"])
@pytest.mark.parametrize(("count", "too_large"), TOO_LARGE_RUNS.values(), ids=TOO_LARGE_RUNS)
def test_too_large_run_is_named(
    upstream: FakeUpstream, thread: Thread, count: int, too_large: dict[int, Json], extra: dict[str, str]
) -> None:
    put(upstream, count, too_large)
    if extra:
        use(upstream, lambda runs, query: chunked(cut(runs, query, size=100)))
    done = sync(thread)
    assert done.status == Sync.Status.COMPLETED_WITH_ERRORS if count > 1 else Sync.Status.FAILED
    assert {error.run_id for error in done.errors.all()} == {f"{THREAD}_{number:03}" for number in too_large}
    for error in done.errors.all():
        assert error.run_id in error.message
        assert "RUNSADMIN_MAX_RESPONSE_BYTES" in error.message
        assert "the limit is 100,000" in error.message
    assert Run.objects.count() == count - len(too_large)


def chunked(response: Response) -> Response:
    content = response.content
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(content), content)
    return Response(200, body, {"Transfer-Encoding": "chunked", "Content-Length": ""})


def test_run_grown_too_large_stays_mirrored(upstream: FakeUpstream, thread: Thread) -> None:
    put(upstream, 10, {})
    sync(thread)
    put(upstream, 10, {4: FAT})
    done = sync(thread)
    assert [error.run_id for error in done.errors.all()] == [f"{THREAD}_004"]
    assert Run.objects.filter(missing_since=None).count() == 10


@pytest.mark.parametrize("first", ["instructions", "object"])
def test_run_whose_id_comes_late(upstream: FakeUpstream, thread: Thread, first: str) -> None:
    """Where the run cannot be identified, the runs on both sides of it are still read."""
    fat = make_run(id="run_fat", thread_id=THREAD, created_at=1_700_000_014, **FAT)
    put(upstream, 30, {})
    upstream.runs[f"{THREAD}_014"] = {first: fat[first], **{name: fat[name] for name in fat if name != first}}
    done = sync(thread)
    error = done.errors.get()
    assert Run.objects.count() == 29
    if first == "instructions":
        assert "could not be read to its end; 29 runs were read" in error.message
        assert "RUNSADMIN_MAX_RESPONSE_BYTES" in error.message
        assert Thread.objects.get().fully_checked_at is None
    else:
        assert error.run_id == "run_fat"


def test_inclusive_pager_and_too_large_run(upstream: FakeUpstream, thread: Thread) -> None:
    """A page of one run never leads on there."""
    put(upstream, 30, {14: FAT})

    def inclusive(runs: list[Json], query: dict[str, str]) -> Response:
        ids = [run["id"] for run in runs]
        start = ids.index(query["after"]) if "after" in query else 0
        return Response(200, {"data": runs[start : start + int(query["limit"])]})

    use(upstream, inclusive)
    done = sync(thread)
    assert "RUNSADMIN_MAX_RESPONSE_BYTES" in done.errors.get().message
    assert Run.objects.count() == 29


def test_too_large_run_when_fetched(upstream: FakeUpstream, thread: Thread) -> None:
    """The list leaves out metadata, and the run itself is too large. The others are not held up."""
    put(upstream, 5, {2: {"metadata": {"note": TOO_LARGE}}})

    def override(request: Request) -> Response | None:
        if not request.is_list:
            return None
        response = upstream.default(request)
        slim = [{name: run[name] for name in run if name != "metadata"} for run in response.body["data"]]
        return Response(200, response.body | {"data": slim})

    upstream.override(override)
    done = sync(thread)
    assert [error.run_id for error in done.errors.all()] == [f"{THREAD}_002"]
    assert Run.objects.count() == 5
    assert Run.objects.exclude(metadata_state="").get().upstream_id == f"{THREAD}_002"
