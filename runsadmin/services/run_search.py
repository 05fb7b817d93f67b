"""Finds runs by a search. `runsadmin.search` has the search language."""

import datetime as dt

from runsadmin import search
from runsadmin.models import MetadataPair, Run, Thread
from runsadmin.models.run import RunQuerySet
from runsadmin.search import And, Node, Term, Word
from runsadmin.search.compiling import beginning, pair_condition
from runsadmin.search.fields import METADATA

# SQLite joins at most 64 tables.
MAX_JOINS = 30
# A word that at most so many runs match is searched by their keys. Only the first words of a search are counted.
FEW = 500
MAX_COUNTED = 5


def matching(
    query: str | Node | None,
    tz: dt.tzinfo = dt.UTC,
    now: dt.datetime | None = None,
    *,
    runs: RunQuerySet | None = None,
) -> RunQuerySet:
    """All runs that match, among `runs` if given; an empty search matches every run. Raises InvalidSearch.

    Times without an offset are in `tz`.
    """
    node = search.parse(query) if isinstance(query, str) else query
    runs = Run.objects.all() if runs is None else runs
    joins = counted = 0
    keys: set[int] | None = None
    for part in _parts(node):
        if isinstance(part, Term) and part.field.name == METADATA and joins < MAX_JOINS:
            # With a join the database can begin with the pairs, which are few for a rare value.
            joins += 1
            runs = runs.filter(pair_condition(part, "pairs__"))
            continue
        if isinstance(part, Word) and keys is None and counted < MAX_COUNTED:
            counted += 1
            if (keys := _few(part)) is not None:
                runs = runs.filter(pk__in=keys)
                continue
        runs = runs.filter(search.condition(part, tz, now))
    return runs


def _parts(node: Node | None) -> tuple[Node, ...]:
    """The nodes that a run has to match, each of them."""
    if node is None:
        return ()
    return node.nodes if isinstance(node, And) else (node,)


def _few(word: Word) -> set[int] | None:
    """The keys of the runs that a word finds, each by an index. None if they are more than FEW."""
    threads = Thread.objects.filter(beginning("upstream_id", word.text)).values_list("pk", flat=True)[: FEW + 1]
    runs = [
        Run.objects.filter(beginning("upstream_id", word.text)).values_list("pk"),
        Run.objects.filter(beginning("assistant_id", word.text)).values_list("pk"),
        Run.objects.filter(beginning("model", word.text)).values_list("pk"),
        MetadataPair.objects.filter(beginning("value", word.text)).values_list("run"),
        Run.objects.filter(thread__in=list(threads)).values_list("pk"),
    ]
    keys: set[int] = set()
    for found in runs:
        keys.update(key for (key,) in found[: FEW + 1])
        if len(keys) > FEW:
            return None
    return keys
