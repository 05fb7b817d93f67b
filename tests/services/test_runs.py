"""The mirror: which of several responses it keeps, and how runs are refreshed."""

import datetime as dt
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from runsadmin import conf
from runsadmin.errors import NoSlot, NotAllowed, NotFound
from runsadmin.models import ConnectionState, Run, Thread
from runsadmin.run_format import FIELDS
from runsadmin.services import connections, marked_runs, runs
from runsadmin.services.gateway import TimedResponse
from runsadmin.services.runs import Difference, Stored
from runsadmin.upstream.records import Response, RunRecord
from tests.conftest import Connect
from tests.sandbox_client import Json, Sandbox, make_run

pytestmark = pytest.mark.django_db(transaction=True)

T0 = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


def at(seconds: float) -> dt.datetime:
    return T0 + dt.timedelta(seconds=seconds)


def timed(thread: Thread, run: Json, *, requested: float = 0, received: float = 1) -> TimedResponse[RunRecord]:
    """A response with the run. The times are in seconds after T0."""
    record = RunRecord.read(run, thread_id=thread.upstream_id)
    return TimedResponse(Response(record, 200, "req_1", 0.0), at(requested), at(received))


@pytest.fixture
def thread(db: None) -> Thread:
    return Thread.objects.create(connection="default", upstream_id="thread_a")


class Upstream:
    """A server with one run, which is requested and received at the given times."""

    def __init__(self, thread: Thread) -> None:
        self.thread = thread
        self.run = make_run(thread_id=thread.upstream_id)

    def response(self, team: str, *, requested: float, received: float) -> TimedResponse[RunRecord]:
        return timed(self.thread, self.run | {"metadata": {"team": team}}, requested=requested, received=received)

    def respond(self, team: str, *, requested: float, received: float) -> Stored:
        return runs.compare([(self.thread, self.response(team, requested=requested, received=received))]).write()

    @property
    def row(self) -> Run:
        return Run.objects.get(upstream_id=self.run["id"])


@pytest.fixture
def upstream(thread: Thread) -> Upstream:
    return Upstream(thread)


def test_later_response_replaces_the_row(upstream: Upstream) -> None:
    assert upstream.respond("a", requested=0, received=1) == Stored(created=1, updated=0)
    assert upstream.respond("b", requested=2, received=3) == Stored(created=0, updated=1)
    assert upstream.row.metadata == {"team": "b"}
    assert dict(upstream.row.pairs.values_list("key", "value")) == {"team": "b"}


def test_slow_response_undoes_nothing(upstream: Upstream) -> None:
    upstream.respond("a", requested=5, received=6)
    upstream.respond("old", requested=1, received=2)
    assert upstream.row.metadata == {"team": "a"}
    assert upstream.row.needs_refresh_since is None


def test_concurrent_write_is_kept(upstream: Upstream) -> None:
    upstream.respond("a", requested=0, received=1)
    older = runs.compare([(upstream.thread, upstream.response("older", requested=2, received=3))])
    upstream.respond("newer", requested=4, received=5)
    assert older.write() == Stored(created=0, updated=0)
    assert upstream.row.metadata == {"team": "newer"}
    assert dict(upstream.row.pairs.values_list("key", "value")) == {"team": "newer"}


def test_concurrently_stored_new_run_is_kept(upstream: Upstream) -> None:
    first = runs.compare([(upstream.thread, upstream.response("first", requested=0, received=1))])
    upstream.respond("second", requested=2, received=3)
    assert first.write() == Stored(created=0, updated=0)
    assert upstream.row.metadata == {"team": "second"}


@pytest.mark.parametrize(("requested", "received"), [(0, 20), (0, 6), (5.5, 20), (5.2, 5.8)])
def test_overlapping_responses_keep_the_row(upstream: Upstream, requested: float, received: float) -> None:
    upstream.respond("a", requested=5, received=6)
    upstream.respond("other", requested=requested, received=received)
    assert upstream.row.metadata == {"team": "a"}
    assert upstream.row.needs_refresh_since is not None

    upstream.respond("settled", requested=30, received=31)
    assert upstream.row.metadata == {"team": "settled"}
    assert upstream.row.needs_refresh_since is None


def test_full_sync_counts_as_a_response(upstream: Upstream) -> None:
    upstream.respond("a", requested=0, received=1)
    Thread.objects.update(fully_checked_at=at(11))
    upstream.respond("b", requested=10, received=12)
    assert upstream.row.metadata == {"team": "a"}
    assert upstream.row.needs_refresh_since is not None


def test_unchanged_listed_run_is_not_written(upstream: Upstream) -> None:
    upstream.respond("a", requested=0, received=1)
    unchanged = upstream.response("a", requested=2, received=3)
    with CaptureQueriesContext(connection) as queries:
        stored = runs.compare([(upstream.thread, unchanged)], of_list=True).write()
    assert stored == Stored(created=0, updated=0)
    assert not [query for query in queries if query["sql"].startswith(("UPDATE", "INSERT", "DELETE"))]


def listed(upstream: Upstream, team: str, *, requested: float) -> Difference:
    response = upstream.response(team, requested=requested, received=requested + 1)
    return runs.compare([(upstream.thread, response)], of_list=True)


def test_later_page_wins_if_two_list_a_run(upstream: Upstream) -> None:
    pages = [listed(upstream, "a", requested=0), listed(upstream, "b", requested=2)]
    assert Difference.of_all(pages).write() == Stored(created=1, updated=0)
    assert upstream.row.metadata == {"team": "b"}
    assert upstream.row.requested_at == at(2)
    pages = [listed(upstream, "c", requested=4), listed(upstream, "d", requested=6)]
    assert Difference.of_all(pages).write() == Stored(created=0, updated=1)
    assert upstream.row.metadata == {"team": "d"}
    assert dict(upstream.row.pairs.values_list("key", "value")) == {"team": "d"}


def test_change_undone_on_next_page_is_not_written(upstream: Upstream) -> None:
    upstream.respond("a", requested=0, received=1)
    pages = [listed(upstream, "b", requested=2), listed(upstream, "a", requested=4)]
    assert Difference.of_all(pages).write() == Stored(created=0, updated=0)
    assert upstream.row.metadata == {"team": "a"}


def test_unchanged_fetch_keeps_the_version(upstream: Upstream) -> None:
    upstream.respond("a", requested=0, received=1)
    version = upstream.row.version
    assert upstream.respond("a", requested=2, received=3) == Stored(created=0, updated=0)
    assert upstream.row.version == version
    assert upstream.row.received_at == at(3)
    upstream.respond("b", requested=1.5, received=1.6)  # A slow response that was requested before the fetch.
    assert upstream.row.metadata == {"team": "a"}


def test_found_run_is_no_longer_missing(upstream: Upstream) -> None:
    upstream.respond("a", requested=0, received=1)
    Run.objects.update(missing_since=at(2))
    upstream.respond("a", requested=3, received=4)
    assert upstream.row.missing_since is None


def test_two_processes_store_new_run_once(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    no_runs = Run.objects.select_for_update().none()
    select_for_update = Run.objects.select_for_update

    def miss_once() -> object:
        """Finds no run, as if another process stored it right after this query."""
        monkeypatch.setattr(Run.objects, "select_for_update", select_for_update)
        return no_runs

    upstream.respond("a", requested=0, received=1)
    monkeypatch.setattr(Run.objects, "select_for_update", miss_once)
    assert upstream.respond("b", requested=2, received=3) == Stored(created=0, updated=1)


def test_etag_changes_with_the_row(upstream: Upstream) -> None:
    upstream.respond("a", requested=0, received=1)
    etag = upstream.row.etag
    upstream.respond("a", requested=2, received=3)
    assert upstream.row.etag == etag
    upstream.respond("b", requested=4, received=5)
    assert upstream.row.etag != etag


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {},
        {"n": 1, "list": [1, 2]},
        {"nul": "a\0b"},
        {"half": "\ud800"},
        {"k" * 700: "v" * 700},
        {"rtl": "שלום", "emoji": "🙂" * 512, "html": "<script>alert(1)</script>"},
    ],
)
def test_response_is_stored_completely(thread: Thread, metadata: Json | None) -> None:
    response = make_run(thread_id=thread.upstream_id, metadata=metadata, unknown_field={"kept": True})
    runs.compare([(thread, timed(thread, response))]).write()
    assert Run.objects.get().as_api() == response


def test_api_representation_has_every_field(thread: Thread) -> None:
    runs.compare([(thread, timed(thread, {"id": "0f3a", "created_at": 1_700_000_000_123}))]).write()
    data = Run.objects.get().as_api()
    assert set(FIELDS) <= set(data)
    assert data["created_at"] == 1_700_000_000


def test_two_servers_can_use_the_same_id(thread: Thread) -> None:
    other = Thread.objects.create(connection="eu", upstream_id=thread.upstream_id)
    response = make_run(thread_id=thread.upstream_id)
    for each in (thread, other):
        runs.compare([(each, timed(each, response))]).write()
    assert Run.objects.count() == 2


def test_refresh_fetches_the_run(sandbox: Sandbox, mirror_run: Callable[..., Run], alice: User) -> None:
    run = mirror_run(metadata={"team": "a"})
    sandbox.set_metadata(run.upstream_id, {"team": "b"})
    assert runs.refresh(run=run, actor=alice).metadata == {"team": "b"}


def test_refresh_reports_a_missing_run(sandbox: Sandbox, mirror_run: Callable[..., Run], alice: User) -> None:
    mirror_run(thread_id="thread_other")
    run = mirror_run()
    sandbox.delete_thread(run.thread.upstream_id)
    with pytest.raises(NotFound):
        runs.refresh(run=run, actor=alice)
    run.refresh_from_db()
    assert run.missing_since is not None


def test_viewer_cannot_refresh(sandbox: Sandbox, mirror_run: Callable[..., Run], carol: User) -> None:
    run = mirror_run()
    sandbox.clear_log()
    with pytest.raises(NotAllowed):
        runs.refresh(run=run, actor=carol)
    assert sandbox.log() == []


def test_marked_runs_are_refreshed(sandbox: Sandbox, mirror_run: Callable[..., Run]) -> None:
    run = mirror_run(metadata={"team": "a"})
    sandbox.set_metadata(run.upstream_id, {"team": "b"})
    Run.objects.update(needs_refresh_since=timezone.now())
    assert marked_runs.refresh_all() == 1
    run = Run.objects.get(pk=run.pk)
    assert run.metadata == {"team": "b"}
    assert run.needs_refresh_since is None


@pytest.fixture
def deleted_run(sandbox: Sandbox, mirror_run: Callable[..., Run], connect: Connect) -> Run:
    """A run that is deleted upstream. Its connection permits one interactive and one background request now."""
    run = mirror_run()
    sandbox.delete_run(run.upstream_id)
    sandbox.clear_log()
    connect(REQUESTS_PER_MINUTE=1)
    return run


def use_interactive_slot() -> None:
    connections.wait_for_slots(conf.connection("default"), 1, interactive=True)


def test_probes_take_slots(sandbox: Sandbox, deleted_run: Run, alice: User) -> None:
    with pytest.raises(NotFound):
        runs.refresh(run=deleted_run, actor=alice)
    assert len(sandbox.gets()) == 2
    state = ConnectionState.objects.get()
    in_a_minute = timezone.now() + dt.timedelta(seconds=60)
    assert min(state.interactive_free_at or T0, state.background_free_at or T0) > in_a_minute


def test_404_without_a_probe_marks_nothing(sandbox: Sandbox, deleted_run: Run, alice: User) -> None:
    use_interactive_slot()
    with pytest.raises(NoSlot):
        runs.refresh(run=deleted_run, actor=alice)
    assert len(sandbox.gets()) == 1
    assert not Run.objects.filter(missing_since__isnull=False).exists()
    assert not connections.is_held("default")


def test_unexplained_404_is_fetched_again(sandbox: Sandbox, deleted_run: Run) -> None:
    Run.objects.update(needs_refresh_since=timezone.now())
    use_interactive_slot()
    assert marked_runs.refresh_all() == 0
    assert Run.objects.filter(needs_refresh_since__isnull=False, missing_since=None).exists()
    ConnectionState.objects.update(interactive_free_at=None, background_free_at=None)
    assert marked_runs.refresh_all() == 1
    assert Run.objects.filter(needs_refresh_since=None, missing_since__isnull=False).exists()
