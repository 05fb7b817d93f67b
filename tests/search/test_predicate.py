"""Generated searches find exactly the runs that a plain predicate selects."""

import pytest
from hypothesis import HealthCheck, given, settings

from runsadmin import search
from runsadmin.models import Run
from runsadmin.services.run_search import RunSearch
from tests.search.cases import BERLIN, NOW, Case, Row, make_rows, searches, store

pytestmark = pytest.mark.django_db


@pytest.fixture
def rows() -> dict[int, Row]:
    return store(make_rows())


def pages(found: RunSearch) -> list[Run]:
    """All runs, by pages: forward, and the same ones backward."""
    page = found.read_page(Run.objects.all(), 7)
    runs = list(page.rows)
    while page.next is not None:
        page = found.read_page(Run.objects.all(), 7, after=page.next)
        runs += page.rows
    backward = list(page.rows)
    while page.previous is not None:
        page = found.read_page(Run.objects.all(), 7, before=page.previous)
        backward = page.rows + backward
    assert backward == runs
    return runs


def newest_first(keys: list[int]) -> list[int]:
    return list(Run.objects.filter(pk__in=keys).order_by("-created_at", "-pk").values_list("pk", flat=True))


@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
@given(case=searches)
def test_search_equals_the_predicate(rows: dict[int, Row], case: Case) -> None:
    node = search.parse(case.text)
    assert node is not None
    assert search.parse(str(node)) == node

    expected = sorted(key for key, row in rows.items() if case.matches(row))
    found = RunSearch(node, BERLIN, NOW)
    assert sorted(found.matching().values_list("pk", flat=True)) == expected
    assert [run.pk for run in pages(found)] == newest_first(expected)
    compiled = Run.objects.filter(search.condition(node, BERLIN, NOW)).values_list("pk", flat=True)
    assert sorted(compiled) == expected
