"""Servers whose times are missing, or in a form of their own."""

import datetime as dt
from collections.abc import Callable

from runsadmin.models import Pair, Run
from tests.fake_upstream import FakeUpstream
from tests.quirks.conftest import sync
from tests.sandbox_client import make_run

type Mirror = Callable[..., list[Run]]


def test_unknown_time_sorts_by_first_sight(mirror: Mirror, upstream: FakeUpstream) -> None:
    (run,) = mirror(make_run(created_at=None, metadata={"ticket": "1"}))
    first_seen = run.created_at
    assert first_seen > dt.datetime.now(dt.UTC) - dt.timedelta(minutes=1)
    assert (run.created_at_is_known, run.as_api()["created_at"]) == (False, None)

    upstream.put(
        make_run(id=run.upstream_id, created_at=None, status="failed", metadata={"ticket": "1", "owner": "lee"})
    )
    sync(run.thread)
    run.refresh_from_db()
    assert (run.created_at, run.status) == (first_seen, "failed")
    assert set(Pair.objects.values_list("key", "created_at")) == {("ticket", first_seen), ("owner", first_seen)}


def test_time_known_later_replaces_first_sight(mirror: Mirror, upstream: FakeUpstream) -> None:
    (run,) = mirror(make_run(created_at=None, metadata={"ticket": "1"}))
    upstream.put(make_run(id=run.upstream_id, created_at=1_700_000_000, metadata={"ticket": "1"}))
    sync(run.thread)
    run.refresh_from_db()
    assert (run.created_at.timestamp(), run.created_at_is_known) == (1_700_000_000, True)
    assert Pair.objects.get().created_at == run.created_at


def test_known_time_outlives_an_unreadable_one(mirror: Mirror, upstream: FakeUpstream) -> None:
    (run,) = mirror(make_run(created_at=1_700_000_000, metadata={"ticket": "1"}))
    upstream.put(make_run(id=run.upstream_id, created_at="soon", metadata={"ticket": "2"}))
    sync(run.thread)
    run.refresh_from_db()
    assert (run.created_at.timestamp(), run.created_at_is_known) == (1_700_000_000, True)
    assert run.metadata == {"ticket": "2"}
