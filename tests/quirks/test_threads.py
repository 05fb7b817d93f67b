"""A server's error about one thread affects only that thread."""

import pytest

from runsadmin.models import ConnectionState, Run, Sync, SyncError, Thread
from tests.fake_upstream import FakeUpstream, Json, Response, error_response, list_response
from tests.quirks.conftest import sync
from tests.quirks.pagers import make_runs, use_pager

pytestmark = pytest.mark.django_db

THREADS = ("thread_a", "thread_b", "thread_c")


@pytest.fixture
def threads(upstream: FakeUpstream) -> list[Thread]:
    for name in THREADS:
        upstream.put(*make_runs(3, name))
    return [Thread.objects.create(connection="default", upstream_id=name) for name in THREADS]


REFUSALS = {
    "JSON": error_response(403, "You may not see this thread."),
    "a firewall's HTML": Response(403, "<html><title>Blocked</title></html>", {"Content-Type": "text/html"}),
    "nothing": Response(403),
    "423 locked": error_response(423, "This thread is locked."),
    "451": error_response(451, "Unavailable For Legal Reasons"),
}


@pytest.mark.parametrize("response", REFUSALS.values(), ids=REFUSALS)
@pytest.mark.parametrize("name", THREADS)
def test_refused_thread_is_an_error_of_the_sync(
    upstream: FakeUpstream, threads: list[Thread], response: Response, name: str
) -> None:
    upstream.override(lambda request: response if request.parts[1] == name else None)
    done = sync()
    assert done.status == Sync.Status.COMPLETED_WITH_ERRORS
    assert done.errors.get().thread.upstream_id == name  # type: ignore[union-attr]
    assert done.runs_seen == 6
    assert not ConnectionState.objects.exclude(hold="").exists()
    assert not Thread.objects.exclude(missing_since=None).exists()


def test_other_threads_keep_the_full_limit(upstream: FakeUpstream, threads: list[Thread]) -> None:
    """A 400 may be about the limit, so smaller pages are requested, but only for this thread."""
    upstream.override(lambda request: error_response(400, "No.") if request.parts[1] == "thread_a" else None)
    assert sync().runs_seen == 6
    limits = {request.query["limit"] for request in upstream.requests() if request.parts[1] == "thread_b"}
    assert limits == {"100"}


def test_refusal_quotes_the_server(upstream: FakeUpstream, threads: list[Thread]) -> None:
    upstream.override(lambda request: REFUSALS["JSON"] if request.parts[1] == "thread_b" else None)
    assert "You may not see this thread." in sync().errors.get().message


def test_refused_key_holds_the_connection(upstream: FakeUpstream, threads: list[Thread]) -> None:
    upstream.override(lambda request: error_response(401, "Wrong key.") if request.parts[1] == "thread_b" else None)
    done = sync()
    assert (done.status, done.threads_done) == (Sync.Status.RUNNING, 1)
    assert ConnectionState.objects.get().hold == ConnectionState.Hold.CREDENTIALS


def test_sync_fails_if_every_thread_is_refused(upstream: FakeUpstream, threads: list[Thread]) -> None:
    upstream.override(lambda request: error_response(403, "No."))
    assert (sync().status, SyncError.objects.count()) == (Sync.Status.FAILED, 3)


# --- The same run in two threads

SHARED_THREAD_IDS: dict[str, Json] = {
    "own thread": {"thread_id": "thread_b"},
    "null": {"thread_id": None},
    "absent": {},
}


def share_runs(upstream: FakeUpstream, count: int, thread_id: Json) -> None:
    """Tracks thread_a, with three runs, and thread_b, which lists the first runs of thread_a with this `thread_id`."""
    for name in ("thread_a", "thread_b"):
        Thread.objects.create(connection="default", upstream_id=name)
    upstream.put(*make_runs(3, "thread_a"))

    def list_runs(runs: list[Json], query: dict[str, str]) -> Response:
        if runs:  # The request is for thread_a.
            return list_response(runs)
        if "after" in query:
            return list_response([])
        shared = make_runs(3, "thread_a")[:count]
        return list_response([without_thread_id(run) | thread_id for run in shared])

    use_pager(upstream, list_runs)


def without_thread_id(run: Json) -> Json:
    return {name: value for name, value in run.items() if name != "thread_id"}


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("thread_id", SHARED_THREAD_IDS.values(), ids=SHARED_THREAD_IDS)
def test_run_in_two_threads_stays_in_first(upstream: FakeUpstream, count: int, thread_id: Json) -> None:
    """Some servers number runs per thread, so ids repeat. The error names both threads."""
    share_runs(upstream, count, thread_id)
    done = sync()
    errors = list(done.errors.all())
    assert (done.status, len(errors)) == (Sync.Status.COMPLETED_WITH_ERRORS, count)
    for error in errors:
        assert "thread_a" in error.message
        assert "thread_b" in error.message
        assert error.run_id in error.message
    assert {run.thread.upstream_id for run in Run.objects.all()} == {"thread_a"}


def test_second_sync_moves_no_run(upstream: FakeUpstream) -> None:
    share_runs(upstream, 1, SHARED_THREAD_IDS["own thread"])
    sync()
    versions = list(Run.objects.order_by("pk").values_list("pk", "version", "thread"))
    sync()
    assert list(Run.objects.order_by("pk").values_list("pk", "version", "thread")) == versions


THREAD_IDS: dict[str, Json] = {"null": {"thread_id": None}, "empty": {"thread_id": ""}, "absent": {}}


@pytest.mark.parametrize("thread_id", THREAD_IDS.values(), ids=THREAD_IDS)
def test_missing_thread_id_is_taken_from_list(upstream: FakeUpstream, threads: list[Thread], thread_id: Json) -> None:
    for run in upstream.runs.values():
        run["listed_in"] = run["thread_id"]

    def list_runs(runs: list[Json], query: dict[str, str]) -> Response:
        page = [] if "after" in query else runs
        return list_response([without_thread_id(run) | thread_id for run in page])

    use_pager(upstream, list_runs)
    assert (sync().status, Run.objects.count()) == (Sync.Status.COMPLETED, 9)
    assert all(run.thread.upstream_id == run.data["listed_in"] for run in Run.objects.all())
