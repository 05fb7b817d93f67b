"""Ranges of indexes that hold every run that a search can find.

Databases choose such a range by statistics, which may be missing and do not show how values depend on each other.
Therefore this package chooses the range, and hides all other conditions from SQLite's choice.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from django.db.models import Func, OuterRef, Q, QuerySet
from django.db.models.sql.compiler import SQLCompiler

from runsadmin import keyset, search
from runsadmin.models import MetadataPair, Run, Thread
from runsadmin.search import And, Equal, Exists, Node, Or, Prefix, Term, Test, Word
from runsadmin.search.compiling import (
    WORD_COLUMNS,
    PerRowExists,
    column_of,
    columns,
    pair_condition,
    starts_with,
    text_condition,
)
from runsadmin.search.fields import METADATA
from runsadmin.services.metadata_keys import Texts
from runsadmin.services.run_search import by_number

# Sizes are only compared up to this number of rows.
MAX_COUNTED = 10_000
# Text columns, each with an index that is also ordered by time.
ORDERED_COLUMNS = frozenset({"status", "model", "assistant_id", "connection", "error_code"})
INDEXED_COLUMNS = ORDERED_COLUMNS | {"upstream_id"}
_PLAIN = "plain_"


class Unindexed(Func):
    """A column that SQLite must not use to choose an index. PostgreSQL chooses by its statistics anyway."""

    template = "%(expressions)s"
    arity = 1

    def as_sqlite(self, compiler: SQLCompiler, connection: Any, **options: Any) -> Any:
        return self.as_sql(compiler, connection, template="+%(expressions)s", **options)


@dataclass(frozen=True)
class Source:
    """A range of an index, ordered by the column `by` or, without it, by time. Each row has one run."""

    rows: QuerySet[Any]
    by: str = ""

    @property
    def is_ordered(self) -> bool:
        return not self.by

    @property
    def run(self) -> str:
        """The field with the primary key of the run."""
        return "pk" if self.rows.model is Run else "run_id"

    @property
    def order(self) -> keyset.Order:
        return ("created_at", self.run)

    def newest_first(self) -> QuerySet[Any]:
        return self.rows.order_by(*(f"-{field}" for field in self.order))

    def matching(self, node: Node | None, condition: Callable[..., Q]) -> QuerySet[Any]:
        """The rows whose runs match. `condition` compiles a node."""
        if node is None:
            return self.rows
        rows: QuerySet[Any] = self.rows
        if rows.model is not Run and columns(node):
            return rows.filter(PerRowExists(Run.objects.filter(condition(node), pk=OuterRef(self.run))))
        rows = rows.alias(**{f"{_PLAIN}{column}": Unindexed(column) for column in columns(node)})
        return rows.filter(condition(node, path=_PLAIN, run=self.run))


@dataclass(frozen=True)
class Cover:
    """Sources that together hold every run that a node matches; if `is_exact`, no others."""

    sources: tuple[Source, ...]
    is_exact: bool = True

    @property
    def is_ordered(self) -> bool:
        return len(self.sources) == 1 and self.sources[0].is_ordered

    @property
    def can_be_merged(self) -> bool:
        return self.is_exact and all(source.is_ordered for source in self.sources)

    @cached_property
    def size(self) -> int:
        """The number of rows. Counting stops at MAX_COUNTED + 1."""
        size = 0
        for source in self.sources:
            # Count a column that the index contains: by default, Django would count primary keys.
            rows = source.rows.order_by().values(source.by or source.run)
            size += rows[: MAX_COUNTED + 1 - size].count()
            if size > MAX_COUNTED:
                break
        return size

    @cached_property
    def density(self) -> Any:
        """The creation time of the row after the newest MAX_COUNTED. The earlier it is, the less dense the rows are.

        Only for an ordered cover with more rows than that.
        """
        return self.sources[0].newest_first().values_list("created_at", flat=True)[MAX_COUNTED]

    def keys(self) -> set[int]:
        """The primary keys of the runs in the sources.

        Only for few runs. They are listed because PostgreSQL would test all runs before a subquery.
        """
        return {pk for each in self.sources for pk in each.rows.order_by().values_list(each.run, flat=True)}

    def runs(self) -> Q:
        """The condition that a run is in one of the sources."""
        found = Q(pk__in=[])
        for source in self.sources:
            found |= Q(pk__in=source.rows.order_by().values(source.run))
        return found


def cover(node: Node, within: Q) -> Cover | None:
    """The sources for a node. None if every run must be tested.

    `within` limits the creation time. It is applied only if the same index has it: SQLite might use another index.
    """
    match node:
        case Or(nodes):
            parts = [cover(each, within) for each in nodes]
            return None if None in parts else _union(part for part in parts if part is not None)
        case And(nodes):
            parts = [cover(each, within) for each in nodes]
            found = min((part for part in parts if part is not None), key=lambda part: part.size, default=None)
            return None if found is None else replace(found, is_exact=False)
        case Word(text):
            threads = _threads(starts_with("upstream_id", text))
            if len(threads) > _MAX_THREADS:
                return None
            of_runs = {column: starts_with(column, text) for column in WORD_COLUMNS if "thread" not in column}
            if threads:
                of_runs["thread"] = Q(thread__in=threads)
            # One source for each column: SQLite may read the whole table for an OR.
            sources = [Source(Run.objects.filter(each), by=column) for column, each in of_runs.items()]
            keys = Texts().first(_MAX_KEYS + 1)
            if len(keys) > _MAX_KEYS:
                return None
            pairs = MetadataPair.objects.filter(starts_with("value", text), key__in=keys)
            return Cover((*sources, Source(pairs, by="value")))
        case Term():
            return _of_term(node, within)
    return None


def _of_term(term: Term, within: Q) -> Cover | None:
    column = column_of(term.field)
    is_exact = isinstance(term.test, Equal)
    if term.field.name == METADATA:
        pairs = MetadataPair.objects.filter(pair_condition(term))
        if is_exact or isinstance(term.test, Exists):
            return Cover((Source(pairs.filter(within)),))
        return Cover((Source(pairs, by="value"),))
    if column == "thread__upstream_id" and not isinstance(term.test, Exists):
        threads = _threads(text_condition("upstream_id", term.test))
        if len(threads) > _MAX_THREADS:
            return None
        if is_exact:
            return Cover(tuple(Source(Run.objects.filter(within, thread=thread)) for thread in threads))
        return Cover((Source(Run.objects.filter(within, thread__in=threads), by="thread"),))
    if column in INDEXED_COLUMNS and not isinstance(term.test, Exists):
        return _of_text(column, term.test, within)
    if column in by_number.COLUMNS and not isinstance(term.test, Exists):
        return Cover((Source(Run.objects.filter(search.condition(term)), by=column),))
    if column == "missing_since" and isinstance(term.test, Exists):
        return Cover((Source(Run.objects.filter(within, missing_since__isnull=False)),))
    return None


def _of_text(column: str, test: Test, within: Q) -> Cover:
    runs = Run.objects.filter(text_condition(column, test))
    if column == "error_code":
        runs = runs.exclude(error_code="")  # The index has this condition.
    if isinstance(test, Equal) and column in ORDERED_COLUMNS:
        return Cover((Source(runs.filter(within)),))
    is_complete = isinstance(test, Equal | Prefix)  # The condition of a comparison also matches runs without a value.
    return Cover((Source(runs, by=column),), is_complete)


_MAX_THREADS = 500
# A word takes one lookup for each metadata key.
_MAX_KEYS = 1000


def _threads(condition: Q) -> list[int]:
    return list(Thread.objects.filter(condition).values_list("pk", flat=True)[: _MAX_THREADS + 1])


def _union(covers: Iterable[Cover]) -> Cover:
    covers = list(covers)
    return Cover(tuple(source for each in covers for source in each.sources), all(each.is_exact for each in covers))
