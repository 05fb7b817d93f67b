"""The list of runs: what it shows and finds, and that large lists are fast."""

import datetime as dt
import html
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from runsadmin.models import Run
from tests.conftest import MakeRun
from tests.sandbox_client import make_run

LIST = "/admin/runsadmin/run/"


def listed(client: Client, query: str | None = "") -> list[str]:
    """The ids of the runs on a page, in its order."""
    return re.findall(
        r'class="ra-id" href="/admin/runsadmin/run/\d+/change/">([^<]+)<', client.get(LIST + (query or "")).text
    )


def page_link(client: Client, query: str | None, word: str) -> str | None:
    found = re.search(rf'href="(\?[^"]*)">[^<]*{word}', client.get(LIST + (query or "")).text)
    return html.unescape(found[1]) if found else None


def ids(count: int) -> list[str]:
    return [f"run_{number:03d}" for number in range(count)]


@pytest.fixture
def make_runs(mirror_run: MakeRun) -> MakeRun:
    """Makes this many runs, each one hour older than the one before. Returns the first."""

    def make_runs(count: int, **fields: Any) -> Run:
        first = mirror_run(id="run_000", **fields)
        copies = [_copy(first, upstream_id=run_id) for run_id in ids(count)[1:]]
        Run.objects.bulk_create(copies)
        for number, run_id in enumerate(ids(count)):
            created = timezone.now() - dt.timedelta(hours=number)
            Run.objects.filter(upstream_id=run_id).update(created_at=created)
        return first

    return make_runs


def _copy(run: Run, **values: Any) -> Run:
    fields = {field.attname: getattr(run, field.attname) for field in Run._meta.concrete_fields if field.name != "id"}
    return Run(**fields | values)


@pytest.mark.django_db
def test_pages_cover_all_runs_newest_first(make_runs: MakeRun, as_carol: Client) -> None:
    make_runs(120)
    Run.objects.update(created_at=timezone.now())  # All at the same time, so the primary key decides the order.
    pages = []
    query: str | None = ""
    while query is not None:
        pages.append(listed(as_carol, query))
        query = page_link(as_carol, query, "Older")

    assert [len(page) for page in pages] == [50, 50, 20]
    assert [run_id for page in pages for run_id in page] == sorted(
        ids(120), key=lambda run_id: -Run.objects.get(upstream_id=run_id).pk
    )

    second = page_link(as_carol, page_link(as_carol, "", "Older"), "Older")
    back = page_link(as_carol, second, "Newer")
    assert listed(as_carol, back) == pages[1]
    assert listed(as_carol, page_link(as_carol, back, "Newer")) == pages[0]
    assert page_link(as_carol, page_link(as_carol, back, "Newer"), "Newer") is None


@pytest.mark.django_db
def test_paging_keeps_the_filters(make_runs: MakeRun, as_carol: Client) -> None:
    make_runs(60, status="failed")

    older = page_link(as_carol, "?status=failed", "Older")

    assert older
    assert "status=failed" in older
    assert len(listed(as_carol, older)) == 10


@pytest.mark.django_db
@pytest.mark.parametrize(
    "query",
    [
        "?older=nonsense",
        "?newer=1",
        "?older=2026-01-01,1",
        "?older=0001-01-01T00:00:00%2B14:00,1",
        "?older=2026-01-01T00:00:00%2B00:00,99999999999999999999",
        "?o=3.-1",
        "?thread=x",
        "?model=%00",
        "?q=%00",
        "?nosuch=1",
    ],
)
def test_invalid_query_breaks_nothing(mirror_run: MakeRun, as_carol: Client, query: str) -> None:
    mirror_run()

    assert as_carol.get(LIST + query, follow=True).status_code == 200


@pytest.mark.django_db
def test_filters_narrow_the_list(make_runs: MakeRun, as_carol: Client) -> None:
    make_runs(200)
    Run.objects.filter(upstream_id="run_003").update(status="failed")
    Run.objects.filter(upstream_id="run_004").update(missing_since=timezone.now())

    assert listed(as_carol, "?status=failed") == ["run_003"]
    assert listed(as_carol, "?status=failed&created=hour") == []
    assert listed(as_carol, "?created=hour") == ["run_000"]
    assert len(listed(as_carol, "?created=day")) == 24
    assert listed(as_carol, "?missing=yes") == ["run_004"]
    assert listed(as_carol, "?connection=elsewhere") == []


@pytest.mark.django_db
def test_search_finds_runs_by_every_id(mirror_run: MakeRun, as_carol: Client) -> None:
    mirror_run(id="run_abc1", thread_id="thread_x", assistant_id="asst_1", created_at=3)
    mirror_run(id="run_abd2", thread_id="thread_x", assistant_id="asst_2", created_at=2)
    mirror_run(id="5f3c", thread_id="thread_y", assistant_id="asst_2", created_at=1)

    assert listed(as_carol, "?q=run_abc1") == ["run_abc1"]
    assert listed(as_carol, "?q=run_ab") == ["run_abc1", "run_abd2"]
    assert listed(as_carol, "?q=thread_x") == ["run_abc1", "run_abd2"]
    assert listed(as_carol, "?q=asst_2") == ["run_abd2", "5f3c"]
    assert listed(as_carol, "?q=%205f%20") == ["5f3c"]
    assert listed(as_carol, "?q=RUN_ABC1") == []


@pytest.mark.django_db
def test_hostile_metadata_is_escaped(mirror_run: MakeRun, as_carol: Client) -> None:
    mirror_run(metadata={"<script>alert(1)</script>": "<img src=x onerror=alert(2)>", "rtl": "‮evil", "long": "x" * 512})

    shown = as_carol.get(LIST).text

    assert "<script>alert" not in shown
    assert "<img src=x" not in shown
    assert "&lt;script&gt;" in shown


# --- The size of the list

QUERIES = (
    "",
    "?status=failed",
    "?status=completed&created=week",
    "?created=day",
    "?connection=default",
    "?missing=yes",
    "?model=gpt-4o",
    "?assistant_id=asst_none",
    "?q=run_000000000000000000001",
    "?q=thread_000000000000000000000001",
)


def fill(mirror_run: Callable[..., Run]) -> None:
    first = mirror_run(metadata={"team": "blue"})
    start = timezone.now()
    Run.objects.bulk_create(
        _copy(
            first,
            upstream_id=make_run()["id"],
            created_at=start - dt.timedelta(minutes=number),
            status="failed" if number % 10 == 0 else "completed",
        )
        for number in range(1999)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def copy_all(times: int) -> None:
    columns = [field.column for field in Run._meta.concrete_fields if field.name not in ("id", "upstream_id")]
    named = ", ".join(f'"{column}"' for column in columns)
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH RECURSIVE copies(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM copies WHERE n < {times})"
            f" INSERT INTO runsadmin_run (upstream_id, {named})"
            f" SELECT upstream_id || '-' || n, {named} FROM runsadmin_run CROSS JOIN copies"
        )
        cursor.execute("ANALYZE")


@pytest.mark.django_db
def test_query_count_is_independent_of_size(mirror_run: MakeRun, as_carol: Client) -> None:
    seen: dict[tuple[int, str], tuple[int, float]] = {}
    fill(mirror_run)
    for count in (2_000, 40_000):
        if count == 40_000:
            copy_all(times=19)
        assert Run.objects.count() == count
        as_carol.get(LIST)  # Warms up.
        for query in QUERIES:
            with CaptureQueriesContext(connection) as captured:
                took = [seconds_of(as_carol, query) for _ in range(3)]
            if count == 40_000:  # A busy machine may have been slow for all three.
                while min(took) >= limit(seen[2_000, query][1]) and len(took) < 15:
                    took.append(seconds_of(as_carol, query))
            seen[count, query] = len(captured), min(took)
            if count == 40_000:
                for each in captured.captured_queries:
                    assert_reads_no_whole_table(each["sql"])

    for query in QUERIES:
        few, many = seen[2_000, query], seen[40_000, query]
        assert few[0] == many[0], query
        assert many[1] < limit(few[1]), (query, few, many)


def seconds_of(client: Client, query: str) -> float:
    began = time.perf_counter()
    assert client.get(LIST + query).status_code == 200
    return time.perf_counter() - began


def limit(seconds: float) -> float:
    """The most that a page may take in a table that is twenty times as large."""
    return seconds * 3 + 0.05


def assert_reads_no_whole_table(sql: str) -> None:
    assert "OFFSET" not in sql
    assert "COUNT(" not in sql
    if '"runsadmin_run"' not in sql or not sql.startswith("SELECT"):
        return
    prefix = "EXPLAIN QUERY PLAN " if connection.vendor == "sqlite" else "EXPLAIN "
    with connection.cursor() as cursor:
        cursor.execute(prefix + sql)
        plan = [str(line[-1]) for line in cursor.fetchall()]
    for line in plan:
        assert not line.strip().startswith("SCAN runsadmin_run") or "INDEX" in line, (sql, plan)
        assert "Seq Scan on runsadmin_run" not in line, (sql, plan)
        assert "TEMP B-TREE FOR ORDER BY" not in line or "pk__in" in sql or " IN (" in sql, (sql, plan)
