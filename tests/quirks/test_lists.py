"""Lists that omit metadata, or show old versions of runs: a sync fetches those runs one by one."""

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


def omit(*names: str) -> Callable[[Json], Json]:
    return lambda run: {name: value for name, value in run.items() if name not in names}


def replace_metadata(value: Any) -> Callable[[Json], Json]:
    return lambda run: run | {"metadata": value}


def change_lists(upstream: FakeUpstream, change: Callable[[Json], Json]) -> None:
    def override(request: Request) -> Response | None:
        if not request.is_list:
            return None
        response = upstream.default(request)
        return Response(200, response.body | {"data": [change(run) for run in response.body["data"]]})

    upstream.override(override)


def fetched_ids(upstream: FakeUpstream) -> list[str]:
    return [request.parts[-1] for request in upstream.requests() if request.is_fetch]


HIDING = {
    "absent": omit("metadata"),
    "JSON text": replace_metadata('{"ticket": "1"}'),
    "a number": replace_metadata(2),
    "a list of pairs": replace_metadata([{"key": "ticket", "value": "1"}]),
    "false": replace_metadata(False),
    "a summary": omit("metadata", "instructions", "tools", "usage"),
}


@pytest.mark.parametrize("kind", [FULL, INCREMENTAL])
@pytest.mark.parametrize("change", HIDING.values(), ids=HIDING)
def test_runs_without_metadata_are_fetched(
    upstream: FakeUpstream, thread: Thread, change: Callable[[Json], Json], kind: Sync.Kind
) -> None:
    change_lists(upstream, change)
    done = sync(thread, kind)
    assert (done.status, done.runs_created) == (Sync.Status.COMPLETED, 5)
    for run in Run.objects.all():
        assert dict(run.metadata) == {"ticket": "1", "owner": "lee"}
        assert run.data == upstream.runs[run.upstream_id]


@pytest.mark.parametrize("change", HIDING.values(), ids=HIDING)
def test_incremental_sync_fetches_changes(
    upstream: FakeUpstream, thread: Thread, change: Callable[[Json], Json]
) -> None:
    change_lists(upstream, change)
    sync(thread)
    upstream.log.clear()
    upstream.runs[f"{THREAD}_003"]["status"] = "failed"
    upstream.put(*make_runs(6, metadata={"ticket": "1", "owner": "lee"})[5:])
    done = sync(Thread.objects.get(), INCREMENTAL)
    assert sorted(fetched_ids(upstream)) == [f"{THREAD}_003", f"{THREAD}_005"]
    assert (done.runs_created, done.runs_updated) == (1, 1)
    assert all(dict(run.metadata) == {"ticket": "1", "owner": "lee"} for run in Run.objects.all())
    assert Run.objects.get(upstream_id=f"{THREAD}_003").status == "failed"


def test_full_sync_fetches_runs_listed_without_metadata(upstream: FakeUpstream, thread: Thread) -> None:
    change_lists(upstream, omit("metadata"))
    sync(thread)
    upstream.log.clear()
    upstream.runs[f"{THREAD}_003"]["metadata"] = {"ticket": "2"}
    assert sync(thread).runs_updated == 1
    assert len(fetched_ids(upstream)) == 5
    assert dict(Run.objects.get(upstream_id=f"{THREAD}_003").metadata) == {"ticket": "2"}


@pytest.mark.parametrize("name", ["metadata", "metadata_"], ids=["under metadata", "under metadata_"])
def test_list_with_metadata_needs_no_fetch(upstream: FakeUpstream, thread: Thread, name: str) -> None:
    change_lists(upstream, lambda run: omit("metadata")(run) | {name: run["metadata"]})
    assert sync(thread).runs_created == 5
    assert fetched_ids(upstream) == []


@pytest.mark.parametrize("response", [not_found("run", "it"), error_response(500, "Oops."), error_response(403, "No.")])
def test_run_that_cannot_be_fetched_is_an_error(upstream: FakeUpstream, thread: Thread, response: Response) -> None:
    change_lists(upstream, omit("metadata"))
    upstream.override(lambda request: response if request.is_fetch and request.parts[-1].endswith("2") else None)
    done = sync(thread)
    assert (done.status, done.errors.get().run_id) == (Sync.Status.COMPLETED_WITH_ERRORS, f"{THREAD}_002")
    assert Run.objects.exclude(metadata_state="").get().upstream_id == f"{THREAD}_002"
    assert Run.objects.count() == 5


@pytest.mark.parametrize("is_inclusive", [False, True])
def test_fetches_of_a_page_span_tasks(upstream: FakeUpstream, thread: Thread, is_inclusive: bool) -> None:
    hide = omit("metadata")

    def override(request: Request) -> Response | None:
        if not request.is_list:
            return None
        ids = list(upstream.runs)[::-1]
        start = ids.index(request.query["after"]) + (0 if is_inclusive else 1) if "after" in request.query else 0
        return Response(200, {"data": [hide(upstream.runs[run_id]) for run_id in ids[start:]]})

    upstream.override(override)
    done = run_by_tasks(syncs.start(connection="default", kind=FULL, actor=None, thread=thread))
    assert (done.status, done.runs_created, len(fetched_ids(upstream))) == (Sync.Status.COMPLETED, 5, 5)
    assert Thread.objects.get().fully_checked_at is not None


# --- A list that lags behind upstream


@pytest.fixture
def lagging_thread(upstream: FakeUpstream, thread: Thread) -> Thread:
    """A synced thread whose list keeps showing the runs as they were at that sync."""
    sync(thread)
    listed = copy.deepcopy(upstream.runs)
    change_lists(upstream, lambda run: listed[run["id"]])
    return thread


def write_and_mirror(upstream: FakeUpstream, run_id: str, *, ago: dt.timedelta) -> None:
    """Changes the metadata as another client would.

    The mirror received the change `ago` before now, and the list still shows the old metadata.
    """
    upstream.runs[run_id]["metadata"] = {"ticket": "2"}
    change_lists(upstream, lambda run: run)
    sync(Thread.objects.get())
    upstream._overrides.pop(0)  # The list shows the old metadata again.
    received_at = timezone.now() - ago
    Run.objects.update(received_at=received_at, requested_at=received_at)
    Thread.objects.update(fully_checked_at=None)
    upstream.log.clear()


@pytest.mark.parametrize("kind", [FULL, INCREMENTAL])
@pytest.mark.parametrize("ago", [0, 1, 30, 100])
def test_stale_list_reverts_nothing(upstream: FakeUpstream, lagging_thread: Thread, kind: Sync.Kind, ago: int) -> None:
    run_id = f"{THREAD}_004"
    write_and_mirror(upstream, run_id, ago=dt.timedelta(seconds=ago))
    done = sync(Thread.objects.get(), kind)
    assert dict(Run.objects.get(upstream_id=run_id).metadata) == {"ticket": "2"}
    assert fetched_ids(upstream) == [run_id]
    assert done.status == Sync.Status.COMPLETED


def test_list_configured_as_fresh_is_trusted(upstream: FakeUpstream, lagging_thread: Thread, connect: Connect) -> None:
    connect(LISTS_ARE_FRESH=True)
    write_and_mirror(upstream, f"{THREAD}_004", ago=dt.timedelta(seconds=30))
    sync(Thread.objects.get())
    assert fetched_ids(upstream) == []


def test_much_later_list_is_trusted(upstream: FakeUpstream, lagging_thread: Thread) -> None:
    write_and_mirror(upstream, f"{THREAD}_004", ago=dt.timedelta(minutes=5))
    sync(Thread.objects.get())
    assert fetched_ids(upstream) == []
