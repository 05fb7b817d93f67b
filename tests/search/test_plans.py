"""Every kind of search uses an index, and either reads it in the order of the list or reads few rows."""

import datetime as dt
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from runsadmin.models import MetadataPair, Run, Thread
from runsadmin.models.bulk_insert import insert_rows, reserve_ids
from runsadmin.services.run_search import RunSearch, expanding, sources
from runsadmin.services.run_search.merging import MERGE_JOINS
from runsadmin.services.search_time_limit import limited, postgresql_settings

pytestmark = pytest.mark.django_db

RUNS = 1200
START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
# Beyond this many rows, a range counts as large.
FEW = 100


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run is `env:prod`, every hundredth `rare:x`, and every tenth failed."""
    monkeypatch.setattr(sources, "MAX_COUNTED", FEW)
    thread = Thread.objects.create(connection="default", upstream_id="thread_a")
    rows: list[dict[str, Any]] = [
        {
            "id": id, "connection": "default", "upstream_id": f"run_{number}", "thread_id": thread.pk,
            "model": "gpt-4o", "assistant_id": "asst_a", "status": "completed" if number % 10 else "failed",
            "error_code": "" if number % 10 else "server_error", "created_at": START + dt.timedelta(seconds=number),
            "total_tokens": number, "duration": dt.timedelta(seconds=number), "raw": "{}", "digest": "",
            "requested_at": START, "received_at": START,
        }
        for number, id in enumerate(reserve_ids(Run, RUNS))
    ]  # fmt: skip
    insert_rows(Run, rows)
    insert_rows(
        MetadataPair,
        [
            {"run_id": row["id"], "key": key, "value": value, "created_at": row["created_at"]}
            for number, row in enumerate(rows)
            for key, value in [("env", "prod"), *([("rare", "x")] if number % 100 == 0 else [])]
        ],
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("metadata.env:prod", "pair_by_key_and_value"),
        ("metadata.env:*", "pair_by_key "),
        ("metadata.rare:x metadata.env:prod", "pair_by_key_and_value"),
        ("metadata.env:prod status:failed", "run_by_status"),
        ("metadata.env:prod -metadata.rare:*", "pair_by_key_and_value"),
        ("metadata.env:prod created:>2026-01-01T00:10", "pair_by_key_and_value"),
        ("metadata.env:prod OR status:failed", "run_by_status"),
        ("(metadata.env:prod OR status:failed) model:gpt*", "run_by_status"),
        ("-metadata.rare:*", "run_newest"),
        ("error:server_error", "run_by_error"),
        ("thread:thread_a", "run_by_thread"),
        ("assistant:asst_a model:gpt-4o error:server_error", "run_by_error"),
        ("metadata.rare:x*", "pair_by_key_and_value"),
        ("id:run_119*", "(upstream_id>"),
        ("tokens:>1190", "run_by_tokens"),
        ("run_119", "(upstream_id>"),
        ("duration:>1s", "run_newest"),
        ("duration:>1190s", "run_by_duration"),
    ],
)
def test_page_is_read_from_the_smallest_range(runs: None, text: str, index: str) -> None:
    check_plans(text, index)


def test_word_with_many_values_uses_an_index(runs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expanding, "MAX_READ", 0)
    check_plans("x", "pair_by_key_and_value")


def check_plans(text: str, index: str) -> None:
    with CaptureQueriesContext(connection) as captured:
        RunSearch.parse(text).read_page(Run.objects.all(), 10)

    # The query of the page, and before it those that read the keys of small ranges.
    read = [query["sql"] for query in captured.captured_queries if query["sql"].startswith("SELECT ")]
    plans = [plan_of(sql) for sql in read if "COUNT(" not in sql and "set_config" not in sql]
    assert any(sql.endswith("LIMIT 11") for sql in read)
    if connection.vendor == "postgresql":  # Its statistics decide which index it uses.
        assert not any("Seq Scan on runsadmin_run" in line for plan in plans for line in plan), plans
        return
    assert any(index in line + " " for plan in plans for line in plan), plans
    for plan in plans:
        # Only rows that are looked up by the keys of an index range are sorted.
        sorts = any("TEMP B-TREE" in line for line in plan)
        assert not sorts or any("INTEGER PRIMARY KEY" in line or "LIST SUBQUERY" in line for line in plan), plan


@pytest.mark.parametrize(
    ("text", "merged"),
    [
        ("metadata.env:prod status:completed", 1),
        ("metadata.env:prod -status:failed", 1),
        ("-metadata.env:*", 1),
        ("status:completed -(metadata.env:test OR error:server_error)", 2),
        ("metadata.env:prod duration:>1s", 1),
        ("metadata.env:prod -thread:thread_b* duration:>1s", 1),
        ("metadata.env:prod -metadata.rare:x* duration:>1s", 2),
        ("metadata.env:prod -model:gpt* prod", 1),
        ("metadata.env:* model:gpt-4o assistant:asst_a -status:failed tokens:>10", 4),
    ],
)
@pytest.mark.usefixtures("runs")
def test_large_ranges_are_merged(text: str, merged: int) -> None:
    with CaptureQueriesContext(connection) as captured:
        RunSearch.parse(text).read_page(Run.objects.all(), 10)

    page = next(query["sql"] for query in captured.captured_queries if query["sql"].endswith("LIMIT 11"))
    plan = plan_of(page)
    assert sum("MERGE (" in line or "Merge Join" in line or "Merge Anti Join" in line for line in plan) == merged, plan
    assert not any("TEMP B-TREE" in line or "Sort  " in line for line in plan), plan


def plan_of(sql: str) -> list[str]:
    with limited(), postgresql_settings(MERGE_JOINS if " AS driver " in sql else {}), connection.cursor() as cursor:
        cursor.execute(f"{'EXPLAIN QUERY PLAN' if connection.vendor == 'sqlite' else 'EXPLAIN'} {sql}")
        return [str(line[-1]) for line in cursor.fetchall()]
