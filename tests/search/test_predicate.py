"""Generated searches find exactly the runs that a plain predicate selects."""

import pytest
from hypothesis import HealthCheck, given, settings

from runsadmin import search
from runsadmin.models import Run
from runsadmin.services import run_search
from tests.search.cases import BERLIN, NOW, Case, Row, make_rows, searches, store

pytestmark = pytest.mark.django_db


@pytest.fixture
def rows() -> dict[int, Row]:
    return store(make_rows())


@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
@given(case=searches)
def test_search_equals_the_predicate(rows: dict[int, Row], case: Case) -> None:
    node = search.parse(case.text)
    assert node is not None
    assert search.parse(str(node)) == node

    expected = sorted(key for key, row in rows.items() if case.matches(row))
    found = run_search.matching(node, BERLIN, NOW).values_list("pk", flat=True)
    assert sorted(found) == expected
    compiled = Run.objects.filter(search.condition(node, BERLIN, NOW)).values_list("pk", flat=True)
    assert sorted(compiled) == expected
