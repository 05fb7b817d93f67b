"""Chooses the index range that a search is read from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from django.db.models import Q

from runsadmin import search
from runsadmin.models import Run
from runsadmin.search import And, Equal, Exists, Node, Not, Or, Term
from runsadmin.search.compiling import column_of
from runsadmin.search.fields import METADATA
from runsadmin.services.run_search import sources
from runsadmin.services.run_search.sources import INDEXED_COLUMNS, Cover, Source, cover

# An OR of up to this many parts is searched part by part. With two ORs, this limits the combinations of their parts.
MAX_BRANCHES = 100


def parts_of(node: Node) -> list[Node]:
    """Nodes with as few groups as possible. A run matches all of them if and only if it matches the given node."""
    match node:
        case And(nodes):
            return [part for each in nodes for part in parts_of(each)]
        case Not(Not(inner)):
            return parts_of(inner)
        case Not(Or(nodes)):
            return [part for each in nodes for part in parts_of(Not(each))]
        case Not(And(nodes)):
            return [search.any_of([Not(each) for each in nodes])]
    return [node]


def tests_all_runs(node: Node) -> bool:
    """Whether the runs that match a node can probably be found only by testing all runs, newest first."""
    match node:
        case And(nodes):
            return all(map(tests_all_runs, nodes))
        case Or(nodes):
            return any(map(tests_all_runs, nodes))
        case Term(field, test):
            is_indexed = field.name == METADATA or column_of(field) in {*INDEXED_COLUMNS, "thread__upstream_id"}
            return not is_indexed or not isinstance(test, Equal | Exists)
    return True


def is_period(node: Node) -> bool:
    """Whether a node limits the creation time, so that its runs are a range of the index of the newest runs."""
    if isinstance(node, And):
        return any(map(is_period, node.nodes))
    return isinstance(node, Term) and node.field.name == "created" and not isinstance(node.test, Exists)


@dataclass(frozen=True)
class Driver:
    """The source whose runs are tested, and the part of the search that needs no further test, if any."""

    source: Source
    part: Node | None = None
    is_small: bool = False


def driver_of(covers: Mapping[Node, Cover], bounded: Source | None, *, compares: bool) -> Driver | None:
    """The smallest source or, if all are large, an ordered one. None if no index range is small or has an order.

    `bounded` has the runs within the limits of the creation time, if there are any.
    """
    found: dict[Node | None, Cover] = dict(covers.items())
    ordered: dict[Node | None, Cover] = {part: each for part, each in covers.items() if each.is_ordered}
    if bounded is not None:
        found[None] = Cover((bounded,), is_exact=False)
        ordered = ordered or {None: found[None]}  # The other ordered sources already apply its limits.
    small = {}
    if compares or bounded is not None or not ordered:  # Otherwise an ordered source is used, whatever the sizes are.
        small = {part: each for part, each in found.items() if each.size <= sources.MAX_COUNTED}
    if small:
        part = min(small, key=lambda each: small[each].size)
    elif ordered:
        part = min(ordered, key=lambda each: ordered[each].density) if len(ordered) > 1 else next(iter(ordered))
    else:
        return None
    chosen = found[part]
    source = chosen.sources[0] if chosen.is_ordered else Source(Run.objects.filter(pk__in=chosen.keys()))
    return Driver(source, part if chosen.is_exact else None, is_small=bool(small))


def branches_of(either: Or) -> list[Node]:
    """The nodes of an OR that are searched separately. Those that test all runs are combined into one node."""
    testing = [node for node in either.nodes if tests_all_runs(node) and not is_period(node)]
    others = [node for node in either.nodes if node not in testing]
    return [*others, search.any_of(testing)] if testing else others


def to_distribute(
    parts: Iterable[Node], covers: Mapping[Node, Cover], driver: Driver | None, branches: int, within: Q
) -> Or | None:
    """The OR to distribute: each of its branches is searched with all other parts. None if no OR gains from that."""
    if driver is not None and driver.is_small:
        return None
    for part in parts:
        if not isinstance(part, Or) or not 1 < len(branches_of(part)) <= branches:
            continue
        if driver is None or _can_be_merged(part, covers, within):
            return part
    return None


def _can_be_merged(either: Or, covers: Mapping[Node, Cover], within: Q) -> bool:
    others = [node for node in either.nodes if not is_period(node)]
    if not others:
        return True
    found = covers.get(either) if len(others) == len(either.nodes) else cover(search.any_of(others), within)
    return found is not None and found.can_be_merged
