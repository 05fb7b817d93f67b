"""Generated searches find exactly the runs that a plain predicate selects."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runsadmin import keyset, search
from runsadmin.models import Run
from runsadmin.services import search_time_limit
from runsadmin.services.run_search import RunSearch, finding, sources
from tests.search.cases import BERLIN, NOW, Case, Row, make_rows, searches, store

pytestmark = pytest.mark.django_db


class Rows(dict[int, Row]):
    """Runs by primary key. The report of a failing search does not list them."""

    def __repr__(self) -> str:
        return f"{len(self)} runs"


@pytest.fixture
def rows() -> Rows:
    return Rows(store(make_rows()))


def pages(found: RunSearch, size: int) -> list[Run]:
    """Reads all runs, page by page."""
    page = found.read_page(Run.objects.all(), size)
    runs = list(page.rows)
    while page.next is not None:
        page = found.read_page(Run.objects.all(), size, after=page.next)
        runs += page.rows
    return runs


def pages_backward(found: RunSearch, size: int, end: Run) -> list[Run]:
    """Reads all runs before `end`, page by page."""
    runs: list[Run] = []
    previous: keyset.Key | None = keyset.key_of(finding.ORDER, end)
    while previous is not None:
        page = found.read_page(Run.objects.all(), size, before=previous)
        runs, previous = page.rows + runs, page.previous
    return runs


def newest_first(keys: list[int]) -> list[int]:
    return list(Run.objects.filter(pk__in=keys).order_by("-created_at", "-pk").values_list("pk", flat=True))


def test_search_equals_the_predicate(rows: Rows, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config) -> None:
    monkeypatch.setattr(search_time_limit, "SECONDS", 60)
    examples = pytestconfig.getoption("search_cases")

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=searches, counted=st.sampled_from([0, 3, 10_000]), size=st.sampled_from([100, 100, 100, 25]))
    def check(case: Case, counted: int, size: int) -> None:
        monkeypatch.setattr(sources, "MAX_COUNTED", counted)  # Ranges with more rows are read in another way.
        node = search.parse(case.text)
        assert node is not None
        assert search.parse(str(node)) == node

        expected = sorted(key for key, row in rows.items() if case.matches(row))
        found = RunSearch(node, BERLIN, NOW)
        assert sorted(found.matching().values_list("pk", flat=True)) == expected
        runs = pages(found, size)
        assert [run.pk for run in runs] == newest_first(expected)
        if runs and size < len(rows):
            assert pages_backward(found, size, runs[-1]) == runs[:-1]
        compiled = Run.objects.filter(search.condition(node, BERLIN, NOW)).values_list("pk", flat=True)
        assert sorted(compiled) == expected

    check()
