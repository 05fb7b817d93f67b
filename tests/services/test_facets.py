"""Facets count the values of the runs that a search finds."""

from collections import Counter

import pytest

from runsadmin.errors import InvalidSearch
from runsadmin.models import Run
from runsadmin.services import facets, search_time_limit
from runsadmin.services.facets import Facet
from runsadmin.services.run_search import RunSearch
from tests.conftest import MakeRun
from tests.search.cases import make_rows, store

pytestmark = pytest.mark.django_db


def values(facet: Facet) -> dict[str | None, int]:
    return {found.value: found.count for found in facet.values}


@pytest.fixture
def runs(mirror_run: MakeRun) -> None:
    error = {"code": "server_error", "message": ""}
    mirror_run(id="run_1", status="failed", last_error=error, metadata={"env": "prod", "team": "a"})
    mirror_run(id="run_2", status="failed", model="o1", metadata={"env": ""})
    mirror_run(id="run_3", status="completed", metadata={"team": "b"})


@pytest.mark.usefixtures("runs")
def test_values_are_counted_within_the_search() -> None:
    searched = RunSearch.parse("status:failed")
    found = facets.count(searched)
    status, model, _, error = found.of_fields

    assert (found.runs, found.is_capped) == (2, False)
    assert values(status) == {"failed": 2}
    assert values(model) == {"gpt-4o": 1, "o1": 1}
    assert values(error) == {"server_error": 1, None: 1}
    assert [(key.value, key.count) for key in found.keys] == [("env", 2), ("team", 1)]
    assert values(facets.count_values(searched, "env")) == {"prod": 1, "": 1}
    assert values(facets.count_values(searched, "team")) == {"a": 1, None: 1}


def test_counts_equal_search_results() -> None:
    store(make_rows())
    found = facets.count(RunSearch.parse(""))
    for facet in (*found.of_fields, facets.count_values(RunSearch.parse(""), "team")):
        assert facet.values
        for value in facet.values:
            assert RunSearch.parse(str(value.term)).matching().count() == value.count, value
    for key in found.keys:
        assert RunSearch.parse(str(key.term)).matching().count() == key.count, key


@pytest.mark.usefixtures("runs")
def test_only_the_newest_runs_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facets, "MAX_RUNS", 2)
    newest = Run.objects.order_by("-created_at", "-pk")[:2]

    for text in ("", "id:run_*"):
        found = facets.count(RunSearch.parse(text))
        assert (found.runs, found.is_capped) == (2, True)
        assert values(found.of_fields[0]) == Counter(run.status for run in newest)


@pytest.mark.usefixtures("runs")
def test_other_values_are_only_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facets, "MAX_VALUES", 1)
    monkeypatch.setattr(facets, "MAX_KEYS", 1)
    found = facets.count(RunSearch.parse(""))
    assert values(found.of_fields[0]) == {"failed": 2}
    assert (found.of_fields[0].others, found.other_keys) == (1, 1)


@pytest.mark.usefixtures("runs")
def test_slow_facets_are_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_time_limit, "SECONDS", 0)
    with pytest.raises(InvalidSearch):
        facets.count(RunSearch.parse("status:failed"))
    with pytest.raises(InvalidSearch):
        facets.count_values(RunSearch.parse("status:failed"), "team")
