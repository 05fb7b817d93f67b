"""The list of runs: paging, filters and search, and the speed of large lists."""

import datetime as dt
import html
import re
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from runsadmin.models import Run
from runsadmin.services.run_search.merging import MERGE_JOINS
from runsadmin.services.run_search.sources import MAX_COUNTED
from runsadmin.services.search_time_limit import limited, postgresql_settings
from runsadmin.templatetags.links import runs_of_thread
from tests.conftest import MakeRun
from tests.sandbox_client import make_run

LIST = "/admin/runsadmin/run/"


def shown_ids(client: Client, query: str | None = "") -> list[str]:
    """The ids of the runs on a page of the list, in their order."""
    shown = client.get(LIST + (query or ""), follow=True).text
    return re.findall(r'class="ra-id" href="\d+/change/[^"]*">([^<]+)<', shown)


def page_link(client: Client, query: str | None, label: str) -> str | None:
    found = re.search(rf'href="(\?[^"]*)">[^<]*{label}', client.get(LIST + (query or "")).text)
    return html.unescape(found[1]) if found else None


def ids(count: int) -> list[str]:
    return [f"run_{number:03d}" for number in range(count)]


@pytest.fixture
def make_runs(mirror_run: MakeRun) -> MakeRun:
    """Makes `count` runs, each one hour older than the previous one. Returns the newest."""

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
        pages.append(shown_ids(as_carol, query))
        query = page_link(as_carol, query, "Older")

    assert [len(page) for page in pages] == [50, 50, 20]
    assert [run_id for page in pages for run_id in page] == sorted(
        ids(120), key=lambda run_id: -Run.objects.get(upstream_id=run_id).pk
    )

    third = page_link(as_carol, page_link(as_carol, "", "Older"), "Older")
    second = page_link(as_carol, third, "Newer")
    first = page_link(as_carol, second, "Newer")
    assert shown_ids(as_carol, second) == pages[1]
    assert shown_ids(as_carol, first) == pages[0]
    assert page_link(as_carol, first, "Newer") is None


@pytest.mark.django_db
def test_pages_are_stable_while_runs_arrive(make_runs: MakeRun, mirror_run: MakeRun, as_carol: Client) -> None:
    make_runs(120)
    first, older = shown_ids(as_carol), page_link(as_carol, "", "Older")
    second = shown_ids(as_carol, older)

    mirror_run(id="run_new")
    Run.objects.filter(upstream_id="run_new").update(created_at=timezone.now())

    assert shown_ids(as_carol, older) == second
    assert shown_ids(as_carol, page_link(as_carol, older, "Newer")) == first
    assert shown_ids(as_carol, page_link(as_carol, page_link(as_carol, older, "Newer"), "Newer")) == ["run_new"]
    assert shown_ids(as_carol)[:2] == ["run_new", "run_000"]


@pytest.mark.django_db
@pytest.mark.parametrize(("column", "order"), [("total_tokens", "most tokens first"), ("duration", "longest first")])
def test_headers_sort_the_list(column: str, order: str, make_runs: MakeRun, as_carol: Client) -> None:
    make_runs(60)
    Run.objects.update(duration=None, total_tokens=None)
    for number, run_id in enumerate(ids(60)[1:], 1):
        value = dt.timedelta(seconds=number) if column == "duration" else number
        Run.objects.filter(upstream_id=run_id).update(**{column: value})

    links = re.findall(r'href="(\?[^"]*o=[^"]*)"', as_carol.get(LIST + (page_link(as_carol, "", "Older") or "")).text)
    ascending = next(html.unescape(link) for link in links if shown_ids(as_carol, html.unescape(link))[0] == "run_001")
    most = ascending.replace("o=", "o=-")
    pages = [shown_ids(as_carol, most), shown_ids(as_carol, page_link(as_carol, most, "Next"))]
    assert [*pages[0], *pages[1]] == [*ids(60)[:0:-1], "run_000"]
    assert shown_ids(as_carol, page_link(as_carol, page_link(as_carol, most, "Next"), "Previous")) == pages[0]
    assert order in as_carol.get(LIST + most).text
    assert shown_ids(as_carol, ascending + "&q=status:completed")[0] == "run_001"


@pytest.mark.django_db
def test_paging_keeps_the_filters(make_runs: MakeRun, as_carol: Client) -> None:
    make_runs(60, status="failed")

    older = page_link(as_carol, "?q=status:failed", "Older")

    assert older
    assert "q=status%3Afailed" in older
    assert len(shown_ids(as_carol, older)) == 10


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
        "?o=99",
        "?o=-total_tokens&older=2026-01-01T00:00:00%2B00:00,1",
        "?thread=x",
        "?model=%00",
        "?q=%00",
        "?nosuch=1",
    ],
)
def test_invalid_query_is_not_an_error(mirror_run: MakeRun, as_carol: Client, query: str) -> None:
    mirror_run()

    assert as_carol.get(LIST + query, follow=True).status_code == 200


@pytest.mark.django_db
@pytest.mark.parametrize("query", ["?status=nope", "?connection=removed"])
def test_invalid_filter_is_left_out_with_a_reason(mirror_run: MakeRun, as_carol: Client, query: str) -> None:
    mirror_run()
    response = as_carol.get(LIST + query)
    assert response["Location"].startswith(LIST)
    name, value = query[1:].split("=")
    shown = html.unescape(as_carol.get(response["Location"]).text)
    assert f"There is no {name} '{value}'." in shown


@pytest.mark.django_db
def test_filters_narrow_the_list(make_runs: MakeRun, as_carol: Client) -> None:
    make_runs(200)
    Run.objects.filter(upstream_id="run_003").update(status="failed")
    Run.objects.filter(upstream_id="run_004").update(missing_since=timezone.now())

    assert shown_ids(as_carol, "?status=failed") == ["run_003"]
    assert shown_ids(as_carol, "?status=failed&created=hour") == []
    assert shown_ids(as_carol, "?created=hour") == ["run_000"]
    assert len(shown_ids(as_carol, "?created=day")) == 24
    assert shown_ids(as_carol, "?missing=yes") == ["run_004"]
    assert shown_ids(as_carol, "?since=2020-01-01T00:00&until=2020-12-31T23:59") == []


@pytest.mark.django_db
def test_link_of_a_thread_finds_one_connection(
    mirror_run: MakeRun, copy_to_eu: Callable[[Run], None], as_carol: Client
) -> None:
    run = mirror_run(id="run_a", thread_id="thread_x")
    copy_to_eu(run)

    assert shown_ids(as_carol, "?q=thread:thread_x") == ["run_a", "run_a"]
    assert shown_ids(as_carol, runs_of_thread(run.thread).removeprefix(LIST)) == ["run_a"]


@pytest.mark.django_db
def test_runs_of_a_removed_connection_name_it(mirror_run: MakeRun, as_carol: Client) -> None:
    run = mirror_run(id="run_a")
    _copy(run, connection="old").save()  # It is not configured.
    shown = as_carol.get(LIST).text
    assert shown.count('<span class="ra-note">old</span>') == 1
    assert '<span class="ra-note">default</span>' not in shown


@pytest.mark.django_db
def test_search_finds_runs_by_every_id(mirror_run: MakeRun, as_carol: Client) -> None:
    mirror_run(id="run_abc1", thread_id="thread_x", assistant_id="asst_1", created_at=3)
    mirror_run(id="run_abd2", thread_id="thread_x", assistant_id="asst_2", created_at=2)
    mirror_run(id="5f3c", thread_id="thread_y", assistant_id="asst_2", created_at=1)

    assert shown_ids(as_carol, "?q=run_abc1") == ["run_abc1"]
    assert shown_ids(as_carol, "?q=run_ab") == ["run_abc1", "run_abd2"]
    assert shown_ids(as_carol, "?q=thread_x") == ["run_abc1", "run_abd2"]
    assert shown_ids(as_carol, "?q=asst_2") == ["run_abd2", "5f3c"]
    assert shown_ids(as_carol, "?q=%205f%20") == ["5f3c"]
    assert shown_ids(as_carol, "?q=RUN_ABC1") == []
    assert shown_ids(as_carol, "?q=-thread:thread_x") == ["5f3c"]


@pytest.mark.django_db
def test_hostile_metadata_is_escaped(mirror_run: MakeRun, as_carol: Client) -> None:
    mirror_run(metadata={"<script>alert(1)</script>": "<img src=x onerror=alert(2)>", "rtl": "‮evil", "long": "x" * 512})

    shown = as_carol.get(LIST).text

    assert "<script>alert" not in shown
    assert "<img src=x" not in shown
    assert "&lt;script&gt;" in shown


# --- Large lists

QUERIES = (
    "",
    "?q=status:failed",
    "?q=status:completed+created:>-7d",
    "?q=created:>-24h",
    "?q=connection:default",
    "?q=missing:*",
    "?q=model:gpt-4o",
    "?q=assistant:asst_none",
    "?q=run_000000000000000000001",
    "?q=thread_000000000000000000000001",
)


def make_2000_runs(mirror_run: MakeRun) -> None:
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


def copy_all_runs(times: int) -> None:
    fields = [field.column for field in Run._meta.concrete_fields if field.name not in ("id", "upstream_id")]
    columns = ", ".join(f'"{column}"' for column in fields)
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH RECURSIVE copies(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM copies WHERE n < {times})"
            f" INSERT INTO runsadmin_run (upstream_id, {columns})"
            f" SELECT upstream_id || '-' || n, {columns} FROM runsadmin_run CROSS JOIN copies"
        )
        cursor.execute("ANALYZE")


@pytest.mark.django_db
def test_query_count_is_independent_of_size(mirror_run: MakeRun, as_carol: Client) -> None:
    make_2000_runs(mirror_run)
    assert Run.objects.count() == 2_000
    as_carol.get(LIST)  # Fills the caches.
    small = {query: measure(as_carol, query) for query in QUERIES}

    copy_all_runs(times=19)

    assert Run.objects.count() == 40_000
    as_carol.get(LIST)
    for query, (small_queries, small_seconds) in small.items():
        limit = small_seconds * 3 + 0.05
        large_queries, large_seconds = measure(as_carol, query)
        for _ in range(12):  # A busy machine may have been slow.
            if large_seconds < limit:
                break
            large_seconds = min(large_seconds, seconds_of(as_carol, query))
        # A search counts the rows of its index ranges, but no further once one is large.
        assert len(large_queries) <= len(small_queries), query
        assert large_seconds < limit, (query, small_seconds, large_seconds)
        for sql in large_queries:
            merge_joins = MERGE_JOINS if " AS driver " in sql else {}
            # With the same settings as for the search itself.
            with limited() if query else nullcontext(), postgresql_settings(merge_joins):
                assert_no_full_scan(sql)


@pytest.mark.parametrize("query", ["", "?q=status:completed"])
def test_threads_are_read_with_their_runs(mirror_run: MakeRun, as_carol: Client, query: str) -> None:
    mirror_run(id="run_a", thread_id="thread_a")
    of_one, _ = measure(as_carol, query)
    for number in range(10):
        mirror_run(id=f"run_{number}", thread_id=f"thread_{number}")

    of_eleven, _ = measure(as_carol, query)

    assert as_carol.get(LIST + query).text.count("data-row") == 11
    assert len(of_eleven) <= len(of_one)


def measure(client: Client, query: str) -> tuple[list[str], float]:
    """Requests the list three times. Returns its SQL queries, and the seconds of the fastest request."""
    with CaptureQueriesContext(connection) as captured:
        seconds = min(seconds_of(client, query) for _ in range(3))
    return [entry["sql"] for entry in captured.captured_queries], seconds


def seconds_of(client: Client, query: str) -> float:
    began = time.perf_counter()
    assert client.get(LIST + query).status_code == 200
    return time.perf_counter() - began


def assert_no_full_scan(sql: str) -> None:
    assert "OFFSET" not in sql.replace("OFFSET 0)", "") or f"OFFSET {MAX_COUNTED}" in sql
    assert "COUNT(" not in sql or f"LIMIT {MAX_COUNTED + 1}" in sql
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


def test_duration_is_shown_as_text(as_alice: Client, mirror_run: MakeRun) -> None:
    mirror_run(created_at=1_700_000_000, started_at=1_700_000_000, completed_at=1_700_000_123, status="completed")
    assert ">2 min 3 s<" in as_alice.get(LIST).text
