"""Replaces and removes clauses of a search. A run is found if it matches all clauses."""

from runsadmin.search.nodes import And, Node, Not, Or, Term, Word, all_of


def clauses(node: Node | None) -> list[Node]:
    if node is None:
        return []
    return list(node.nodes) if isinstance(node, And) else [node]


def without(node: Node | None, removed: Node) -> Node | None:
    """The search without one of its clauses."""
    return joined([each for each in clauses(node) if each != removed])


def clauses_of(node: Node | None, field: str) -> list[Node]:
    """The clauses that test this field and no other."""
    return [each for each in clauses(node) if _fields(each) == {field}]


def with_clauses_of(node: Node | None, field: str, new: list[Node]) -> Node | None:
    """The search in which these clauses replace those that test this field and no other."""
    replaced = clauses_of(node, field)
    return joined([*(each for each in clauses(node) if each not in replaced), *new])


def joined(nodes: list[Node]) -> Node | None:
    """The search with these clauses; None if there are none."""
    return all_of(nodes) if nodes else None


def _fields(node: Node) -> set[str]:
    """The names of the fields that a node tests. An empty name stands for the fields that a word tests."""
    match node:
        case And(nodes) | Or(nodes):
            return set().union(*map(_fields, nodes))
        case Not(excluded):
            return _fields(excluded)
        case Term(field):
            return {field.name}
        case Word():
            return {""}
