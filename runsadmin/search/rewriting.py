"""Adds terms to a search, and replaces or removes them."""

from collections.abc import Iterator

from runsadmin.search.nodes import And, Node, Not, Term, all_of


def clauses(node: Node | None) -> list[Node]:
    """The nodes that must all match."""
    if node is None:
        return []
    return list(node.nodes) if isinstance(node, And) else [node]


def with_clause(node: Node | None, added: Node) -> Node:
    """What matches both. A clause that excludes the added one is removed, and the other way around."""
    opposite = added.node if isinstance(added, Not) else Not(added)
    return all_of([*(each for each in clauses(node) if each != opposite), added])


def without(node: Node | None, removed: Node) -> Node | None:
    """The search without one of its clauses."""
    return _joined(each for each in clauses(node) if each != removed)


def terms_of(node: Node | None, field: str) -> list[Term]:
    """The clauses that are a term of this field."""
    return [each for each in clauses(node) if isinstance(each, Term) and each.field.name == field]


def with_terms_of(node: Node | None, field: str, terms: list[Term]) -> Node | None:
    """The search in which these terms replace the clauses that are a term of this field."""
    replaced = terms_of(node, field)
    return _joined(iter([*(each for each in clauses(node) if each not in replaced), *terms]))


def _joined(nodes: Iterator[Node]) -> Node | None:
    left = list(nodes)
    return all_of(left) if left else None
