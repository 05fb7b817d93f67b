"""Servers whose times or token counts are missing, or in an unusual format."""

import datetime as dt
from collections.abc import Callable
from urllib.parse import quote

import pytest
from django.contrib.auth.models import User

from runsadmin.bulk_patch import BulkPatch
from runsadmin.models import Edit, MetadataPair, Run, Sync, Thread
from runsadmin.services import bulk_edits
from tests.api.conftest import ApiOf
from tests.bulk import complete_plan
from tests.fake_upstream import FakeUpstream, Json, Request, Response, list_response
from tests.quirks.conftest import sync
from tests.sandbox_client import make_run

type Mirror = Callable[..., list[Run]]


def test_unknown_time_sorts_by_first_sync(mirror_runs: Mirror, upstream: FakeUpstream) -> None:
    (run,) = mirror_runs(make_run(created_at=None, metadata={"ticket": "1"}))
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


def test_known_time_replaces_first_sync(mirror_runs: Mirror, upstream: FakeUpstream) -> None:
    (run,) = mirror_runs(make_run(created_at=None, metadata={"ticket": "1"}))
    upstream.put(make_run(id=run.upstream_id, created_at=1_700_000_000, metadata={"ticket": "1"}))
    sync(run.thread)
    run.refresh_from_db()
    assert (run.created_at.timestamp(), run.created_at_is_known) == (1_700_000_000, True)
    assert MetadataPair.objects.get().created_at == run.created_at


def test_known_time_survives_an_unreadable_one(mirror_runs: Mirror, upstream: FakeUpstream) -> None:
    (run,) = mirror_runs(make_run(created_at=1_700_000_000, metadata={"ticket": "1"}))
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
    "ISO with an offset without a colon": "2023-11-14T14:13:20-0800",
    "ISO without a zone": "2023-11-14T22:13:20",
    "ISO with a space": "2023-11-14 22:13:20+00:00",
    "ISO with nanoseconds": "2023-11-14T22:13:20.000000000Z",
    "ISO with a comma": "2023-11-14T22:13:20,000Z",
    "ISO in lower case": "2023-11-14t22:13:20z",
    "ISO basic format": "20231114T221320Z",
}
UNREADABLE = {
    "zero": 0,
    "zero as a float": 0.0,
    "negative": -1,
    "false": False,
    "true": True,
    "empty": "",
    "text of zero": "0",
    "text": "yesterday",
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
    "text that float() accepts": "Infinity",
    "other digits": "١٧٠٠٠٠٠٠٠٠",
}


@pytest.mark.parametrize("value", READABLE.values(), ids=READABLE)
def test_time_is_read(value: object, mirror_runs: Mirror) -> None:
    (run,) = mirror_runs(make_run(created_at=value, started_at=value))
    assert (run.created_at_is_known, run.created_at.timestamp()) == (True, TIME)
    assert (run.as_api()["created_at"], run.as_api()["started_at"]) == (TIME, TIME)


@pytest.mark.parametrize("value", UNREADABLE.values(), ids=UNREADABLE)
def test_unreadable_time_is_unknown(value: object, mirror_runs: Mirror) -> None:
    (run,) = mirror_runs(make_run(created_at=value, started_at=value, completed_at=value))
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


@pytest.mark.parametrize(("value", "expected"), USAGE.values(), ids=USAGE)
def test_usage_is_read(value: object, expected: int | None, mirror_runs: Mirror) -> None:
    (run,) = mirror_runs(make_run(usage={"prompt_tokens": value, "completion_tokens": 3, "total_tokens": value}))
    assert (run.prompt_tokens, run.completion_tokens, run.total_tokens) == (expected, 3, expected)


def sync_two_pages(*runs: Json, upstream: FakeUpstream) -> tuple[Sync, list[str]]:
    """Syncs the runs from two pages. Returns the sync and its error messages."""

    def list_runs(request: Request) -> Response | None:
        if not request.is_list:
            return None
        if "after" in request.query:
            return list_response(list(runs[1:]))
        return list_response([runs[0]], has_more=True)

    upstream.override(list_runs)
    done = sync(Thread.objects.create(connection="default", upstream_id=runs[0]["thread_id"]))
    return done, [error.message for error in done.errors.order_by("pk")]


def test_unreadable_field_is_reported_once(upstream: FakeUpstream, db: None) -> None:
    runs = [make_run(created_at="soon", usage={"total_tokens": "many"}) for _ in range(5)]
    done, (created, usage) = sync_two_pages(*runs, upstream=upstream)
    assert "created_at" in created
    assert '"soon"' in created
    assert "usage.total_tokens" in usage
    assert (done.status, done.runs_seen) == (Sync.Status.COMPLETED_WITH_ERRORS, 5)


@pytest.mark.parametrize("unset", [None, 0, "", 0.0, False])
def test_unset_time_is_not_an_error(unset: object, upstream: FakeUpstream, db: None) -> None:
    done, errors = sync_two_pages(make_run(failed_at=unset, expires_at=unset), upstream=upstream)
    assert (done.status, errors) == (Sync.Status.COMPLETED, [])


def test_absent_creation_time_is_not_an_error(upstream: FakeUpstream, db: None) -> None:
    run = make_run()
    del run["created_at"]
    assert sync_two_pages(run, upstream=upstream)[1] == []


def test_template_skips_a_run_of_unknown_time(mirror_runs: Mirror, alice: User) -> None:
    known, unknown = mirror_runs(make_run(created_at=TIME), make_run(created_at=None, thread_id="thread_b"))
    selection = bulk_edits.by_ids([known.upstream_id, unknown.upstream_id])
    patch = BulkPatch({"month": "{created:%Y-%m}"})
    plan = complete_plan(
        bulk_edits.plan(selection=selection, patch=patch, actor=alice, source=Edit.Source.ADMIN, reason="r")
    )
    plan_results = {edit.run_id: (edit.plan_result, dict(edit.patch.set)) for edit in plan.edits.all()}
    assert plan_results == {
        known.pk: (Edit.PlanResult.CHANGE, {"month": "2023-11"}),
        unknown.pk: (Edit.PlanResult.NO_VALUE, {}),
    }


@pytest.mark.parametrize("query", ["created:>=2000-01-01", "created:<2100-01-01", "created:>2000-01-01T00:00:00Z"])
def test_time_search_excludes_unknown_times(query: str, mirror_runs: Mirror, alice: User, api: ApiOf) -> None:
    known, _ = mirror_runs(make_run(created_at=TIME), make_run(created_at=None, thread_id="thread_b"))
    found = api(alice).get(f"runs/?q={quote(query)}").json()["results"]
    assert [run["id"] for run in found] == [known.upstream_id]
    found = api(alice).get("runs/?created_after=2000-01-01T00:00:00Z").json()["results"]
    assert [run["id"] for run in found] == [known.upstream_id]
