"""Searches sorted by tokens, duration or creation: every page has the runs that a plain sort would put there."""

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runsadmin import search
from runsadmin.models import Run
from runsadmin.services.run_search import RunSearch, Sort, finding, sources
from tests.search.cases import BERLIN, NOW, Case, Row, make_rows, searches, store
from tests.search.test_plans import plan_of, runs  # noqa: F401 - a fixture

pytestmark = pytest.mark.django_db

# The sort key of a run. Its first item says whether the value is unknown.
VALUES: dict[str, Callable[[Run], Any]] = {
    "created_at": lambda run: (False, run.created_at, run.pk),
    "total_tokens": lambda run: (run.total_tokens is None, run.total_tokens or 0, run.pk),
    "duration": lambda run: (run.duration is None, run.duration or dt.timedelta(), run.pk),
}


def expected(sort: Sort, runs: list[Run]) -> list[int]:  # noqa: F811
    value = VALUES[sort.removeprefix("-")]
    known = sorted((run for run in runs if not value(run)[0]), key=value, reverse=not sort.is_ascending)
    unknown = sorted((run for run in runs if value(run)[0]), key=value, reverse=not sort.is_ascending)
    return [run.pk for run in (*known, *unknown)]


def pages(found: RunSearch, sort: Sort, size: int) -> tuple[list[int], list[int]]:
    """Reads all runs page by page, forward and then backward."""
    page = found.read_page(Run.objects.all(), size, sort=sort)
    forward, backward = list(page.rows), list(page.rows)
    while page.next is not None:
        page = found.read_page(Run.objects.all(), size, sort=sort, after=page.next)
        forward += page.rows
        backward = list(page.rows)
    while page.previous is not None:
        page = found.read_page(Run.objects.all(), size, sort=sort, before=page.previous)
        backward = page.rows + backward
    return [run.pk for run in forward], [run.pk for run in backward]


@pytest.fixture
def rows() -> dict[int, Row]:
    return store(make_rows())


@pytest.mark.parametrize(
    ("max_counted", "max_walked", "max_sorted"), [(10_000, 1, 1), (3, 10_000, 1), (3, 10, 10_000), (3, 10, 5)]
)
def test_pages_are_sorted(
    rows: dict[int, Row],
    max_counted: int,
    max_walked: int,
    max_sorted: int,
    monkeypatch: pytest.MonkeyPatch,
    pytestconfig: pytest.Config,
) -> None:
    monkeypatch.setattr(sources, "MAX_COUNTED", max_counted)
    monkeypatch.setattr(finding, "MAX_WALKED", max_walked)
    monkeypatch.setattr(finding, "MAX_SORTED", max_sorted)
    examples = pytestconfig.getoption("search_cases") // 20

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=searches, sort=st.sampled_from(Sort), size=st.sampled_from([20, 100]))
    def check(case: Case, sort: Sort, size: int) -> None:
        matching = [run for run in Run.objects.all() if case.matches(rows[run.pk])]
        in_order = expected(sort, matching)
        assert pages(RunSearch(search.parse(case.text), BERLIN, NOW), sort, size) == (in_order, in_order)

    check()


@pytest.mark.parametrize("sort", Sort)
def test_all_runs_are_sorted(rows: dict[int, Row], sort: Sort) -> None:
    in_order = expected(sort, list(Run.objects.all()))
    assert pages(RunSearch.parse(""), sort, 7) == (in_order, in_order)


@pytest.mark.parametrize(
    ("text", "is_small"),
    [
        ("", False),
        ("metadata.env:prod", False),
        ("metadata.env:prod -status:failed", False),
        ("metadata.env:prod OR status:failed", False),
        ("tokens:>300", False),
        ("duration:>300s", False),
        ("-metadata.rare:*", False),
        ("metadata.rare:x metadata.env:prod", True),
        ("id:run_119* status:completed", True),
    ],
)
@pytest.mark.parametrize("sort", [sort for sort in Sort if sort.is_by_number])
@pytest.mark.usefixtures("runs")
def test_plan_walks_the_index_or_sorts_few(text: str, is_small: bool, sort: Sort) -> None:
    with CaptureQueriesContext(connection) as captured:
        page = RunSearch.parse(text).read_page(Run.objects.all(), 10, sort=sort)
        middle = dt.timedelta(seconds=600) if sort.column == "duration" else 600
        RunSearch.parse(text).read_page(Run.objects.all(), 10, sort=sort, after=(middle, 5))
        RunSearch.parse(text).read_page(Run.objects.all(), 10, sort=sort, after=(None, 5))
    assert len(page.rows) == 10
    beginning, ending = f'SELECT "runsadmin_run"."{sort.column}"', ")" if is_small else "LIMIT 11"
    statements = [query["sql"] for query in captured.captured_queries]
    plans = [plan_of(sql) for sql in statements if sql.startswith(beginning) and sql.endswith(ending)]
    assert len(plans) >= 3
    if connection.vendor == "postgresql":  # Its statistics decide which index it uses.
        assert not any("Seq Scan on runsadmin_run" in line for plan in plans for line in plan), plans
        return
    of_column = {"total_tokens": "run_by_tokens", "duration": "run_by_duration"}[sort.column]
    index = "INTEGER PRIMARY KEY (rowid=?)" if is_small else of_column
    for plan in plans:
        assert any(index in line for line in plan), plan
        assert not any("TEMP B-TREE" in line for line in plan), plan
