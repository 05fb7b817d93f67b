"""Servers whose times are missing, or in a form of their own."""

import datetime as dt
from collections.abc import Callable
from urllib.parse import quote

import pytest
from django.contrib.auth.models import User

from runsadmin.bulk_patch import BulkPatch
from runsadmin.models import Edit, MetadataPair, Run, Sync, Thread
from runsadmin.services import bulk_edits
from tests.api.conftest import Api
from tests.bulk import complete_plan
from tests.fake_upstream import FakeUpstream, Json, list_response
from tests.quirks.conftest import sync
from tests.sandbox_client import make_run

type ApiOf = Callable[..., Api]
type Mirror = Callable[..., list[Run]]


def test_unknown_time_sorts_by_first_sync(mirror: Mirror, upstream: FakeUpstream) -> None:
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
    assert set(MetadataPair.objects.values_list("key", "created_at")) == {("ticket", first_seen), ("owner", first_seen)}


def test_known_time_replaces_first_sync(mirror: Mirror, upstream: FakeUpstream) -> None:
    (run,) = mirror(make_run(created_at=None, metadata={"ticket": "1"}))
    upstream.put(make_run(id=run.upstream_id, created_at=1_700_000_000, metadata={"ticket": "1"}))
    sync(run.thread)
    run.refresh_from_db()
    assert (run.created_at.timestamp(), run.created_at_is_known) == (1_700_000_000, True)
    assert MetadataPair.objects.get().created_at == run.created_at


def test_known_time_outlives_unreadable_one(mirror: Mirror, upstream: FakeUpstream) -> None:
    (run,) = mirror(make_run(created_at=1_700_000_000, metadata={"ticket": "1"}))
    upstream.put(make_run(id=run.upstream_id, created_at="soon", metadata={"ticket": "2"}))
    sync(run.thread)
    run.refresh_from_db()
    assert (run.created_at.timestamp(), run.created_at_is_known) == (1_700_000_000, True)
    assert run.metadata == {"ticket": "2"}


# 2023-11-14 22:13:20 UTC
TIME = 1_700_000_000
READABLE = {
    "seconds": TIME,
    "seconds as a float": 1_700_000_000.0,
    "milliseconds": 1_700_000_000_000,
    "microseconds": 1_700_000_000_000_000,
    "nanoseconds": 1_700_000_000_000_000_000,
    "text of seconds": "1700000000",
    "text of a float": "1700000000.0",
    "text of milliseconds": " 1700000000000 ",
    "text with an exponent": "1.7e9",
    "ISO with Z": "2023-11-14T22:13:20Z",
    "ISO with an offset": "2023-11-15T03:43:20+05:30",
    "ISO with an offset without colon": "2023-11-14T14:13:20-0800",
    "ISO without a zone": "2023-11-14T22:13:20",
    "ISO with a space": "2023-11-14 22:13:20+00:00",
    "ISO with nanoseconds": "2023-11-14T22:13:20.000000000Z",
    "ISO with a comma": "2023-11-14T22:13:20,000Z",
    "ISO in small letters": "2023-11-14t22:13:20z",
    "ISO of the basic form": "20231114T221320Z",
}
UNREADABLE = {
    "zero": 0,
    "zero as a float": 0.0,
    "negative": -1,
    "false": False,
    "true": True,
    "empty": "",
    "text of zero": "0",
    "words": "yesterday",
    "huge": 10**30,
    "huge float": 1e300,
    "fraction of a second": 0.25,
    "the epoch": "1970-01-01T00:00:00Z",
    "the year 1": "0001-01-01T00:00:00Z",
    "the year 9999": "9999-12-31T23:59:59-12:00",
    "the 30th of February": "2023-02-30T00:00:00Z",
    "ticks of .NET": 638_356_148_000_000_000,
    "never, in seconds": 253_402_300_799,
    "list": [2023, 11, 14],
    "object": {"seconds": TIME},
    "words that float() takes": "Infinity",
    "digits of another script": "١٧٠٠٠٠٠٠٠٠",
}


@pytest.mark.parametrize("value", READABLE.values(), ids=READABLE)
def test_time_is_read(value: object, mirror: Mirror) -> None:
    (run,) = mirror(make_run(created_at=value, started_at=value))
    assert (run.created_at_is_known, run.created_at.timestamp()) == (True, TIME)
    assert (run.as_api()["created_at"], run.as_api()["started_at"]) == (TIME, TIME)


@pytest.mark.parametrize("value", UNREADABLE.values(), ids=UNREADABLE)
def test_other_time_is_unknown(value: object, mirror: Mirror) -> None:
    (run,) = mirror(make_run(created_at=value, started_at=value, completed_at=value))
    assert (run.created_at_is_known, run.started_at, run.completed_at, run.duration) == (False, None, None, None)
    assert run.created_at.year > 1970
    assert {run.as_api()[name] for name in ("created_at", "started_at", "completed_at")} == {None}


USAGE = {
    "integer": (12, 12),
    "float": (12.0, 12),
    "text": ("12", 12),
    "text of a float": ("12.0", 12),
    "exponent": ("1.2e1", 12),
    "zero": (0, 0),
    "half": (12.5, None),
    "negative": (-1, None),
    "true": (True, None),
    "words": ("many", None),
    "thousands": ("1,200", None),
    "too large": (10**20, None),
    "list": ([12], None),
}


@pytest.mark.parametrize(("value", "read"), USAGE.values(), ids=USAGE)
def test_usage_is_read(value: object, read: int | None, mirror: Mirror) -> None:
    (run,) = mirror(make_run(usage={"prompt_tokens": value, "completion_tokens": 3, "total_tokens": value}))
    assert (run.prompt_tokens, run.completion_tokens, run.total_tokens) == (read, 3, read)


def errors_of(*runs: Json, upstream: FakeUpstream) -> tuple[Sync, list[str]]:
    """What a sync of two pages of these runs reports."""
    upstream.override(
        lambda request: (
            list_response(
                list(runs[1:]) if request.query.get("after") else [runs[0]], has_more=not request.query.get("after")
            )
            if request.is_list
            else None
        )
    )
    pass_ = sync(Thread.objects.create(connection="default", upstream_id=runs[0]["thread_id"]))
    return pass_, [error.message for error in pass_.errors.order_by("pk")]


def test_unreadable_field_is_reported_once(upstream: FakeUpstream, db: None) -> None:
    runs = [make_run(created_at="soon", usage={"total_tokens": "many"}) for _ in range(5)]
    pass_, (created, usage) = errors_of(*runs, upstream=upstream)
    assert "created_at" in created
    assert '"soon"' in created
    assert "usage.total_tokens" in usage
    assert (pass_.status, pass_.runs_seen) == (Sync.Status.COMPLETED_WITH_ERRORS, 5)


@pytest.mark.parametrize("unset", [None, 0, "", 0.0, False])
def test_unset_time_is_no_error(unset: object, upstream: FakeUpstream, db: None) -> None:
    pass_, errors = errors_of(make_run(failed_at=unset, expires_at=unset), upstream=upstream)
    assert (pass_.status, errors) == (Sync.Status.COMPLETED, [])


def test_absent_created_time_is_no_error(upstream: FakeUpstream, db: None) -> None:
    run = make_run()
    del run["created_at"]
    assert errors_of(run, upstream=upstream)[1] == []


def test_unknown_time_has_no_value(mirror: Mirror, alice: User) -> None:
    known, unknown = mirror(make_run(created_at=TIME), make_run(created_at=None, thread_id="thread_b"))
    selection, patch = (
        bulk_edits.by_ids([known.upstream_id, unknown.upstream_id]),
        BulkPatch({"month": "{created:%Y-%m}"}),
    )
    plan = complete_plan(
        bulk_edits.plan(selection=selection, patch=patch, actor=alice, source=Edit.Source.ADMIN, reason="r")
    )
    plan_results = {edit.run_id: (edit.plan_result, dict(edit.patch.set)) for edit in plan.edits.all()}
    assert plan_results == {
        known.pk: (Edit.PlanResult.CHANGE, {"month": "2023-11"}),
        unknown.pk: (Edit.PlanResult.NO_VALUE, {}),
    }


@pytest.mark.parametrize("query", ["created:>=2000-01-01", "created:<2100-01-01", "created:>2000-01-01T00:00:00Z"])
def test_time_search_leaves_unknown_out(query: str, mirror: Mirror, alice: User, api: ApiOf) -> None:
    known, _ = mirror(make_run(created_at=TIME), make_run(created_at=None, thread_id="thread_b"))
    found = api(alice).get(f"runs/?q={quote(query)}").json()["results"]
    assert [run["id"] for run in found] == [known.upstream_id]
    found = api(alice).get("runs/?created_after=2000-01-01T00:00:00Z").json()["results"]
    assert [run["id"] for run in found] == [known.upstream_id]
