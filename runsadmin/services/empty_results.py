"""Explains why a search finds no run, and what to search for instead."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import islice

from runsadmin import search
from runsadmin.errors import InvalidSearch
from runsadmin.models import RunStatus, SyncError, Thread
from runsadmin.search import Equal, Field, Node, Not, Prefix, Term, Word
from runsadmin.search.compiling import column_of
from runsadmin.search.fields import METADATA, Kind
from runsadmin.search.rewriting import clauses, without
from runsadmin.services.distinct_texts import MAX_COUNT
from runsadmin.services.field_texts import first_texts
from runsadmin.services.metadata_keys import Texts, pairs_with_prefix
from runsadmin.services.run_search import RunSearch
from runsadmin.services.run_search.sources import INDEXED_COLUMNS
from runsadmin.services.search_time_limit import limited

# All counts together may take this many seconds. Those that are left then stay unknown.
SECONDS = 4.0
MAX_CLAUSES = 20
_MAX_COMPARED = 300
_MAX_NEAREST = 3
# A word is compared with the values of this many keys.
_MAX_KEYS = 20
_MAX_THREADS = 5
_MAX_ERRORS = 200


@dataclass(frozen=True)
class CountedNode:
    """A search, and how many runs it finds: MAX_COUNT + 1 if there are more than MAX_COUNT, None if unknown."""

    node: Node | None
    count: int | None


@dataclass(frozen=True)
class Clause:
    """A clause of the search, how many runs match it, and the search without it."""

    node: Node
    count: int | None
    others: CountedNode

    @property
    def is_cause(self) -> bool:
        """Whether the search finds nothing because of this clause."""
        return self.count == 0 or bool(self.others.count)


@dataclass(frozen=True)
class Explanation:
    """Why a search finds nothing. `proposals` are similar searches that find runs.

    `incomplete` has some of the tracked threads that were not read completely.
    """

    clauses: Sequence[Clause]
    proposals: Sequence[CountedNode]
    incomplete: Sequence[Thread]
    has_more_incomplete: bool


def explain(found_nothing: RunSearch) -> Explanation:
    """Explains the empty result of a search."""
    counting = _Counting(found_nothing)
    node = found_nothing.node
    parts = clauses(node)
    of_parts = []
    for part in parts[:MAX_CLAUSES]:
        others = without(node, part)
        rest = CountedNode(others, counting.count(others) if len(parts) > 1 else None)
        of_parts.append(Clause(part, counting.count(part), rest))
    # Proposals for clauses that no run matches come first.
    in_order = sorted(of_parts, key=lambda clause: clause.count != 0)
    replaced = dict.fromkeys(
        search.all_of(other if part is clause.node else part for part in parts)
        for clause in in_order
        if clause.is_cause
        for other in _nearest(clause.node)
    )
    proposals = (CountedNode(each, count) for each in replaced if (count := counting.count(each)))
    incomplete = _incomplete()
    return Explanation(
        of_parts, list(islice(proposals, _MAX_NEAREST)), incomplete[:_MAX_THREADS], len(incomplete) > _MAX_THREADS
    )


class _Counting:
    def __init__(self, searched: RunSearch) -> None:
        self.searched = searched
        self.until = time.monotonic() + SECONDS

    def count(self, node: Node | None) -> int | None:
        """How many runs a search finds. None if counting takes too long."""
        left = self.until - time.monotonic()
        if left <= 0:
            return None
        try:
            with limited(left):
                return replace(self.searched, node=node).count(MAX_COUNT)
        except InvalidSearch:
            return None


def _nearest(node: Node) -> Iterator[Node]:
    """Searches that a user may have meant instead of this one."""
    match node:
        case Not(excluded):
            yield from map(Not, _nearest(excluded))
        case Word(text):
            keys = _keys()
            fields = [Field(name) for name in ("status", "model", "error")]
            for field in (*fields, *(Field(METADATA, key) for key in keys[:_MAX_KEYS])):
                yield from (Term(field, Equal(value)) for value in _near(text, _values_near(field, text)))
            for key in _near(text, keys):
                yield Term(Field(METADATA, key), search.Exists())
        case Term(field, Equal(text) | Prefix(text)) if field.kind is Kind.TEXT:
            yield from _nearest_terms(field, text)
        case Term(field) if field.name == METADATA:
            yield from (replace(node, field=Field(METADATA, key)) for key in _near(field.key or "", _keys()))


def _nearest_terms(field: Field, text: str) -> Iterator[Node]:
    if field.name == METADATA:
        keys = _keys()
        if field.key not in keys:
            yield from (Term(Field(METADATA, key), Equal(text)) for key in _near(field.key or "", keys))
        yield from (
            Term(Field(METADATA, key), Equal(value)) for key, value in pairs_with_prefix(text, keys, _MAX_NEAREST)
        )
    if field.name in (METADATA, "thread") or column_of(field) in INDEXED_COLUMNS:
        yield from (Term(field, Equal(value)) for value in _near(text, _values_near(field, text)))


def _keys() -> list[str]:
    return Texts().first(_MAX_COMPARED)


def _values_near(field: Field, text: str) -> Iterable[str]:
    """Values to compare with a text: the first values of the field, and the first ones that begin like the text."""
    found = dict.fromkeys(first_texts(field, "", _MAX_COMPARED))
    if field.name == "status":
        found |= dict.fromkeys(RunStatus.values)
    for length in (1, 2, 4, 8):
        if length < len(text):
            found |= dict.fromkeys(first_texts(field, text[:length], _MAX_COMPARED))
    return found


def _near(text: str, candidates: Iterable[str]) -> list[str]:
    """The candidates that are most similar to a text, ignoring case."""
    by_lower = {candidate.lower(): candidate for candidate in candidates if candidate != text}
    return [by_lower[each] for each in get_close_matches(text.lower(), by_lower, _MAX_NEAREST)]


def _incomplete() -> list[Thread]:
    """Tracked threads that were never read completely, or that could not be read since."""
    never = Thread.objects.filter(tracked=True, fully_checked_at=None).order_by("pk")[: _MAX_THREADS + 1]
    found = {thread.pk: thread for thread in never}
    errors = SyncError.objects.filter(thread__tracked=True).select_related("thread").order_by("-pk")[:_MAX_ERRORS]
    for error in errors:
        thread = error.thread
        if thread and thread.fully_checked_at and error.created_at > thread.fully_checked_at:
            found.setdefault(thread.pk, thread)
    return list(found.values())
