"""Metadata keys and values are read from an index, with one lookup for each."""

import datetime as dt
from typing import Any

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runsadmin.models import MetadataPair, Run, Thread
from runsadmin.models.bulk_insert import insert_rows, reserve_ids
from runsadmin.services.metadata_keys import Texts

pytestmark = pytest.mark.django_db

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
TEXTS = ("", "A", "a", "aa", "ab", "b", "é", "\ud7ff", "\ue000", "😀", "\U0010ffff", "\U0010ffffa")


@pytest.fixture
def pairs() -> None:
    """Run n has the first n + 1 of TEXTS as keys. The value of its key `a` is TEXTS[n]; its other values are empty."""
    thread = Thread.objects.create(connection="default", upstream_id="thread_a")
    for number in range(len(TEXTS)):
        run = Run.objects.create(
            connection="default", upstream_id=f"run_{number}", thread=thread, status="completed", created_at=NOW,
            raw="{}", digest="", requested_at=NOW, received_at=NOW,
        )  # fmt: skip
        for key in TEXTS[: number + 1]:
            value = TEXTS[number] if key == "a" else ""
            MetadataPair.objects.create(run=run, key=key, value=value, created_at=NOW)


def all_pages(texts: Texts, size: int) -> tuple[list[str], list[str]]:
    """All texts, read forward and then backward by pages."""
    page = texts.read_page(size)
    forward = [row.text for row in page.rows]
    backward = list(forward)
    while page.next is not None:
        page = texts.read_page(size, after=page.next[0])
        forward += [row.text for row in page.rows]
        backward = [row.text for row in page.rows]
    while page.previous is not None:
        page = texts.read_page(size, before=page.previous[0])
        backward = [row.text for row in page.rows] + backward
    return forward, backward


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(prefix=st.sampled_from([*TEXTS, "c", "\0"]), key=st.sampled_from([None, "a"]), size=st.integers(1, 5))
def test_pages_have_all_texts(pairs: None, prefix: str, key: str | None, size: int) -> None:
    known = TEXTS if key is None else TEXTS[2:]
    expected = sorted(text for text in known if text.startswith(prefix))
    assert all_pages(Texts(prefix, key), size) == (expected, expected)
    assert Texts(prefix, key).first(100) == expected


def test_runs_are_counted(pairs: None) -> None:
    counts = {row.text: row.count for row in Texts().read_page(100).rows}
    assert counts == {text: len(TEXTS) - number for number, text in enumerate(TEXTS)}
    assert {row.count for row in Texts(key="a").read_page(100).rows} == {1}


@pytest.fixture
def many_pairs() -> None:
    """Enough pairs for PostgreSQL to choose between indexes: 20 keys with 200 values each, and two runs per value."""
    thread = Thread.objects.create(connection="default", upstream_id="thread_a")
    ids = reserve_ids(Run, 400)
    insert_rows(
        Run,
        [
            {
                "id": id, "connection": "default", "upstream_id": f"run_{id}", "thread_id": thread.pk,
                "status": "completed", "created_at": NOW, "raw": "{}", "digest": "", "requested_at": NOW,
                "received_at": NOW,
            }
            for id in ids
        ],
    )  # fmt: skip
    insert_rows(
        MetadataPair,
        [
            {"run_id": id, "key": f"k{key}", "value": f"v{number // 2}", "created_at": NOW}
            for number, id in enumerate(ids)
            for key in range(20)
        ],
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


@pytest.mark.parametrize(
    ("texts", "position"),
    [
        (Texts(), {}),
        (Texts("k"), {"after": "k3"}),
        (Texts(key="k1"), {}),
        (Texts("v", "k1"), {"after": "v5"}),
        (Texts("v", "k1"), {"before": "v50"}),
    ],
)
def test_plan_reads_only_index_ranges(many_pairs: None, texts: Texts, position: dict[str, str]) -> None:
    plan: list[str] = []

    def explain(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith("WITH"):
            execute(f"EXPLAIN {'QUERY PLAN ' * (connection.vendor == 'sqlite')}{sql}", params, many, context)
            plan.extend(str(line[-1]) for line in context["cursor"].fetchall())
        return execute(sql, params, many, context)

    with connection.execute_wrapper(explain):
        assert len(texts.read_page(5, **position).rows) == 5
    lookups = [line for line in plan if "runsadmin_metadatapair" in line]
    assert lookups
    for line in lookups:  # PostgreSQL uses an index-only scan only after a VACUUM.
        assert "COVERING INDEX pair_by_key" in line or "using pair_by_key" in line or "Bitmap Heap Scan" in line, plan
