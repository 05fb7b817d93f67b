"""Adding, replacing and removing clauses of a search."""

import pytest

from runsadmin import search
from runsadmin.search.rewriting import clauses_of, with_clauses_of, without


def node(text: str) -> search.Node:
    found = search.parse(text)
    assert found is not None
    return found


def test_clause_is_removed() -> None:
    assert str(without(node("a (b OR c)"), node("b OR c"))) == "a"
    assert without(node("a"), node("a")) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("status:failed a", "a status:expired"),
        ("status:(failed OR queued) -status:expired", "status:expired"),
        ("status:failed OR model:x", "(status:failed OR model:x) status:expired"),
        ("failed", "failed status:expired"),
    ],
)
def test_clauses_of_a_field_are_replaced(text: str, expected: str) -> None:
    assert str(with_clauses_of(node(text), "status", [node("status:expired")])) == expected


def test_other_fields_are_kept() -> None:
    assert clauses_of(node("a status:failed OR model:x"), "status") == []
    assert str(with_clauses_of(node("status:failed a"), "status", [])) == "a"
