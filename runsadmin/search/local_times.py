"""Whether a search depends on the time zone in which it is read."""

from runsadmin.search import values
from runsadmin.search.fields import Kind
from runsadmin.search.nodes import And, Between, Compare, Equal, Node, Not, Or, Term


def has_local_times(node: Node | None) -> bool:
    """Whether a search has a date, or a time without an offset."""
    match node:
        case And(nodes) | Or(nodes):
            return any(map(has_local_times, nodes))
        case Not(excluded):
            return has_local_times(excluded)
        case Term(field, test) if field.kind is Kind.TIME:
            return any(values.is_local(text) for text in _texts(test))
    return False


def _texts(test: object) -> list[str]:
    match test:
        case Equal(value) | Compare(_, value):
            return [value]
        case Between(low, high):
            return [end for end in (low, high) if end is not None]
    return []
