"""Suggestions while a search is typed."""

import pytest

from runsadmin import search
from runsadmin.search.completing import typed_at
from runsadmin.services.suggestions import MAX_SUGGESTIONS, suggest
from tests.conftest import MakeRun

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def runs(mirror_run: MakeRun) -> None:
    error = {"code": "rate_limit_exceeded", "message": ""}
    mirror_run(id="run_a1", status="failed", last_error=error, metadata={"team": "billing", "cost center": "R&D"})
    mirror_run(id="run_b2", model="gpt-4o-mini", metadata={"team": "Search", "env": ""})
    mirror_run(id="run_b3", model="gpt-4o-mini", metadata={"team": "Search"})


def suggested(text: str) -> list[tuple[str, int | None]]:
    typed = typed_at(text, len(text))
    assert typed is not None
    found = suggest(typed)
    assert len(found) <= MAX_SUGGESTIONS
    return [(each.text, each.count.count if each.count else None) for each in found]


def texts(text: str) -> list[str]:
    return [each for each, _ in suggested(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bill", [("metadata.team:billing", 1)]),
        ("status:fa", [("failed", 1)]),
        ("metadata.", [('metadata."cost center":', 1), ("metadata.env:", 1), ("metadata.team:", 3)]),
        ("metadata.CENT", [('metadata."cost center":', 1)]),
        ('metadata."cost center":', [('"R&D"', 1), ("*", None)]),
        ("metadata.team:", [("Search", 2), ("billing", 1), ("*", None)]),
        ("metadata.team:se", [("Search", 2)]),
        ("metadata.env:", [('""', 1), ("*", None)]),
        ("status:failed model:gpt", [("gpt-4o", 1), ("gpt-4o-mini", 2)]),
        ("rate", [("error:rate_limit_exceeded", 1)]),
        ("run_b", [("id:run_b2", None), ("id:run_b3", None)]),
        ("tokens:>", [(">1000", None), (">10000", None)]),
        ("nothing", []),
    ],
)
def test_values_are_suggested_with_counts(text: str, expected: list[tuple[str, int | None]]) -> None:
    assert suggested(text) == expected


def test_fields_are_suggested() -> None:
    assert texts("")[:3] == ["status:", "model:", "metadata."]
    assert texts("stat") == ["status:"]
    assert texts("meta") == ["metadata."]
    assert ("queued", 0) in suggested("status:")


@pytest.mark.parametrize(
    "text", ["status:", "model:", "metadata.team:", "created:", "duration:", "tokens:", "bill", "-bi"]
)
def test_suggestions_are_valid_searches(text: str) -> None:
    typed = typed_at(text, len(text))
    assert typed is not None
    for each in suggest(typed):
        search.parse(text[: typed.begin] + each.text + ("x" if each.is_begin else ""))
