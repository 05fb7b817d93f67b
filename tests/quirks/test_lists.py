"""Lists that leave out metadata, or show runs as they were: a sync fetches those runs themselves."""

import copy
import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone

from runsadmin.models import Run, Sync, Thread
from runsadmin.services import syncs
from tests.conftest import Connect
from tests.fake_upstream import FakeUpstream, Json, Request, Response, error_response, not_found
from tests.quirks.conftest import run_by_tasks, sync
from tests.quirks.pagers import THREAD, make_runs

pytestmark = pytest.mark.django_db

FULL, INCREMENTAL = Sync.Kind.FULL, Sync.Kind.INCREMENTAL


@pytest.fixture
def thread(upstream: FakeUpstream) -> Thread:
    upstream.put(*make_runs(5, metadata={"ticket": "1", "owner": "lee"}))
    return Thread.objects.create(connection="default", upstream_id=THREAD)


def without(*names: str) -> Callable[[Json], Json]:
    return lambda run: {name: value for name, value in run.items() if name not in names}


def showing(value: Any) -> Callable[[Json], Json]:
    return lambda run: run | {"metadata": value}


def list_as(upstream: FakeUpstream, change: Callable[[Json], Json]) -> None:
    def override(request: Request) -> Response | None:
        if not request.is_list:
            return None
        response = upstream.default(request)
        return Response(200, response.body | {"data": [change(run) for run in response.body["data"]]})

    upstream.override(override)


def fetches(upstream: FakeUpstream) -> list[str]:
    return [request.parts[-1] for request in upstream.requests() if request.is_fetch]


HIDING = {
    "absent": without("metadata"),
    "JSON text": showing('{"ticket": "1"}'),
    "a number": showing(2),
    "a list of pairs": showing([{"key": "ticket", "value": "1"}]),
    "false": showing(False),
    "a summary": without("metadata", "instructions", "tools", "usage"),
}


@pytest.mark.parametrize("kind", [FULL, INCREMENTAL])
@pytest.mark.parametrize("change", HIDING.values(), ids=HIDING)
def test_runs_without_metadata_are_fetched(
    upstream: FakeUpstream, thread: Thread, change: Callable[[Json], Json], kind: Sync.Kind
) -> None:
    list_as(upstream, change)
    done = sync(thread, kind)
    assert (done.status, done.runs_created) == (Sync.Status.COMPLETED, 5)
    for run in Run.objects.all():
        assert dict(run.metadata) == {"ticket": "1", "owner": "lee"}
        assert run.data == upstream.runs[run.upstream_id]


@pytest.mark.parametrize("change", HIDING.values(), ids=HIDING)
def test_incremental_sync_fetches_changes(
    upstream: FakeUpstream, thread: Thread, change: Callable[[Json], Json]
) -> None:
    list_as(upstream, change)
    sync(thread)
    upstream.log.clear()
    upstream.runs[f"{THREAD}_003"]["status"] = "failed"
    upstream.put(*make_runs(6, metadata={"ticket": "1", "owner": "lee"})[5:])
    done = sync(Thread.objects.get(), INCREMENTAL)
    assert sorted(fetches(upstream)) == [f"{THREAD}_003", f"{THREAD}_005"]
    assert (done.runs_created, done.runs_updated) == (1, 1)
    assert all(dict(run.metadata) == {"ticket": "1", "owner": "lee"} for run in Run.objects.all())
    assert Run.objects.get(upstream_id=f"{THREAD}_003").status == "failed"


def test_full_sync_fetches_without_metadata(upstream: FakeUpstream, thread: Thread) -> None:
    list_as(upstream, without("metadata"))
    sync(thread)
    upstream.log.clear()
    upstream.runs[f"{THREAD}_003"]["metadata"] = {"ticket": "2"}
    assert sync(thread).runs_updated == 1
    assert len(fetches(upstream)) == 5
    assert dict(Run.objects.get(upstream_id=f"{THREAD}_003").metadata) == {"ticket": "2"}


@pytest.mark.parametrize("name", ["metadata", "metadata_"], ids=["under metadata", "under metadata_"])
def test_list_with_metadata_needs_no_fetch(upstream: FakeUpstream, thread: Thread, name: str) -> None:
    list_as(upstream, lambda run: without("metadata")(run) | {name: run["metadata"]})
    assert sync(thread).runs_created == 5
    assert fetches(upstream) == []


@pytest.mark.parametrize("response", [not_found("run", "it"), error_response(500, "Oops."), error_response(403, "No.")])
def test_run_that_cannot_be_fetched(upstream: FakeUpstream, thread: Thread, response: Response) -> None:
    list_as(upstream, without("metadata"))
    upstream.override(lambda request: response if request.is_fetch and request.parts[-1].endswith("2") else None)
    done = sync(thread)
    assert (done.status, done.errors.get().run_id) == (Sync.Status.COMPLETED_WITH_ERRORS, f"{THREAD}_002")
    assert Run.objects.exclude(metadata_state="").get().upstream_id == f"{THREAD}_002"
    assert Run.objects.count() == 5


@pytest.mark.parametrize("is_inclusive", [False, True])
def test_fetches_of_a_page_span_tasks(upstream: FakeUpstream, thread: Thread, is_inclusive: bool) -> None:
    hide = without("metadata")

    def override(request: Request) -> Response | None:
        if not request.is_list:
            return None
        ids = list(upstream.runs)[::-1]
        start = ids.index(request.query["after"]) + (not is_inclusive) if "after" in request.query else 0
        return Response(200, {"data": [hide(upstream.runs[run_id]) for run_id in ids[start:]]})

    upstream.override(override)
    done = run_by_tasks(syncs.start(connection="default", kind=FULL, actor=None, thread=thread))
    assert (done.status, done.runs_created, len(fetches(upstream))) == (Sync.Status.COMPLETED, 5, 5)
    assert Thread.objects.get().fully_checked_at is not None


# --- A list that lags behind


@pytest.fixture
def lagging(upstream: FakeUpstream, thread: Thread) -> Thread:
    """The list keeps showing all runs as they were when this fixture was made."""
    sync(thread)
    then = copy.deepcopy(upstream.runs)
    list_as(upstream, lambda run: then[run["id"]])
    return thread


def write(upstream: FakeUpstream, run_id: str, ago: dt.timedelta) -> None:
    """Another client changes the metadata. The mirror has the old metadata, from a GET that was `ago` earlier."""
    upstream.runs[run_id]["metadata"] = {"ticket": "2"}
    list_as(upstream, lambda run: run)
    sync(Thread.objects.get())
    upstream._overrides.pop(0)
    then = timezone.now() - ago
    Run.objects.update(received_at=then, requested_at=then)
    Thread.objects.update(fully_checked_at=None)
    upstream.log.clear()


@pytest.mark.parametrize("kind", [FULL, INCREMENTAL])
@pytest.mark.parametrize("ago", [0, 1, 30, 100])
def test_stale_list_reverts_nothing(upstream: FakeUpstream, lagging: Thread, kind: Sync.Kind, ago: int) -> None:
    run_id = f"{THREAD}_004"
    write(upstream, run_id, dt.timedelta(seconds=ago))
    done = sync(Thread.objects.get(), kind)
    assert dict(Run.objects.get(upstream_id=run_id).metadata) == {"ticket": "2"}
    assert fetches(upstream) == [run_id]
    assert done.status == Sync.Status.COMPLETED


def test_list_configured_as_fresh_is_trusted(upstream: FakeUpstream, lagging: Thread, connect: Connect) -> None:
    connect(LISTS_ARE_FRESH=True)
    write(upstream, f"{THREAD}_004", dt.timedelta(seconds=30))
    sync(Thread.objects.get())
    assert fetches(upstream) == []


def test_list_long_after_response_is_trusted(upstream: FakeUpstream, lagging: Thread) -> None:
    write(upstream, f"{THREAD}_004", dt.timedelta(minutes=5))
    sync(Thread.objects.get())
    assert fetches(upstream) == []
