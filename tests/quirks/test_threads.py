"""A server's error about one thread concerns only that thread."""

import pytest

from runsadmin.models import ConnectionState, Run, Sync, SyncError, Thread
from tests.fake_upstream import FakeUpstream, Json, Response, error_response, list_response
from tests.quirks.conftest import sync
from tests.quirks.pagers import make_runs, use

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
def test_refused_thread_is_its_error(
    upstream: FakeUpstream, threads: list[Thread], response: Response, name: str
) -> None:
    upstream.override(lambda request: response if request.parts[1] == name else None)
    done = sync()
    assert done.status == Sync.Status.COMPLETED_WITH_ERRORS
    assert done.errors.get().thread.upstream_id == name  # type: ignore[union-attr]
    assert done.runs_seen == 6
    assert not ConnectionState.objects.exclude(hold="").exists()
    assert not Thread.objects.exclude(missing_since=None).exists()


def test_refused_thread_leaves_the_limit(upstream: FakeUpstream, threads: list[Thread]) -> None:
    """A 400 may be about the limit, so smaller pages are requested; the next thread gets whole pages again."""
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


def test_every_thread_refused_has_failed(upstream: FakeUpstream, threads: list[Thread]) -> None:
    upstream.override(lambda request: error_response(403, "No."))
    assert (sync().status, SyncError.objects.count()) == (Sync.Status.FAILED, 3)


# --- One run id in two threads


@pytest.mark.parametrize("shared", [1, 3])
@pytest.mark.parametrize("thread_id", ["own", None, "absent"])
def test_run_in_two_threads_stays_in_first(upstream: FakeUpstream, shared: int, thread_id: str | None) -> None:
    """Servers that number runs in each thread. The error names both threads."""
    for name in ("thread_a", "thread_b"):
        Thread.objects.create(connection="default", upstream_id=name)
    upstream.put(*make_runs(3, "thread_a"))
    named: dict[str | None, Json] = {"own": {"thread_id": "thread_b"}, None: {"thread_id": None}, "absent": {}}
    own = named[thread_id]

    def override(runs: list[Json], query: dict[str, str]) -> Response:
        if "after" in query:
            return list_response([])
        listed = [{name: run[name] for name in run if name != "thread_id"} | own for run in make_runs(3, "thread_a")]
        return list_response(listed[:shared])

    use(upstream, lambda runs, query: override(runs, query) if not runs else list_response(runs))
    done = sync()
    errors = list(done.errors.all())
    assert (done.status, len(errors)) == (Sync.Status.COMPLETED_WITH_ERRORS, shared)
    for error in errors:
        assert "thread_a" in error.message
        assert "thread_b" in error.message
        assert error.run_id in error.message
    assert {run.thread.upstream_id for run in Run.objects.all()} == {"thread_a"}


def test_run_in_two_threads_again(upstream: FakeUpstream) -> None:
    """However often it is read, it stays in its thread."""
    test_run_in_two_threads_stays_in_first(upstream, 1, "own")
    versions = list(Run.objects.order_by("pk").values_list("pk", "version", "thread"))
    sync()
    assert list(Run.objects.order_by("pk").values_list("pk", "version", "thread")) == versions


@pytest.mark.parametrize("thread_id", [None, "", "absent"])
def test_runs_that_name_no_thread(upstream: FakeUpstream, threads: list[Thread], thread_id: str | None) -> None:
    for run in upstream.runs.values():
        run["listed_in"] = run["thread_id"]

    def response(runs: list[Json], query: dict[str, str]) -> Response:
        runs = [run for run in runs if "after" not in query]
        own = {} if thread_id == "absent" else {"thread_id": thread_id}
        return list_response([{name: run[name] for name in run if name != "thread_id"} | own for run in runs])

    use(upstream, response)
    assert (sync().status, Run.objects.count()) == (Sync.Status.COMPLETED, 9)
    assert all(run.thread.upstream_id == run.data["listed_in"] for run in Run.objects.all())
