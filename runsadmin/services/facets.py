"""How many of the runs that a search finds have each status, model, assistant, error, metadata key and value.

Facets count the newest MAX_RUNS matching runs.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from django.db import connection

from runsadmin.models import MetadataPair, Run
from runsadmin.search import Equal, Exists, Field, Node, Not, Term
from runsadmin.search.compiling import column_of
from runsadmin.search.fields import METADATA
from runsadmin.services.run_search import RunSearch
from runsadmin.services.search_time_limit import limited, postgresql_settings
from runsadmin.text import clean

MAX_RUNS = 100_000
MAX_VALUES = 10
MAX_KEYS = 30
FIELDS = tuple(Field(name) for name in ("status", "model", "assistant", "error"))

# PostgreSQL would read whole tables for a hash join, which takes twice as long.
_LOOKUPS = {"enable_hashjoin": "off", "enable_mergejoin": "off"}

_RUNS, _PAIRS = Run._meta.db_table, MetadataPair._meta.db_table


@dataclass(frozen=True)
class FacetValue:
    """A value, the number of runs that have it, and the term that finds them. None stands for runs without a value."""

    value: str | None
    count: int
    term: Node


@dataclass(frozen=True)
class Facet:
    """The most frequent values of a field, and how many other values there are."""

    field: Field
    values: Sequence[FacetValue]
    others: int = 0


@dataclass(frozen=True)
class Facets:
    """`runs` is how many runs were counted. If `is_capped`, the search finds more."""

    runs: int
    is_capped: bool
    of_fields: Sequence[Facet]
    keys: Sequence[FacetValue]
    other_keys: int


def count(search: RunSearch) -> Facets:
    """The facets of a search. Raises InvalidSearch if counting takes too long."""
    with limited():
        found = _Found.of(search)
        with postgresql_settings(_LOOKUPS):
            columns, keys = found.columns(), found.keys()
    return Facets(
        runs=len(found.runs),
        is_capped=found.is_capped,
        of_fields=[_facet(field, counts) for field, counts in zip(FIELDS, columns, strict=True)],
        keys=[FacetValue(name, size, Term(Field(METADATA, name), Exists())) for name, size in keys[:MAX_KEYS]],
        other_keys=max(len(keys) - MAX_KEYS, 0),
    )


def count_values(search: RunSearch, key: str) -> Facet:
    """The values of a metadata key. Raises InvalidSearch if counting takes too long."""
    with limited():
        found = _Found.of(search)
        with postgresql_settings(_LOOKUPS):
            return _facet(Field(METADATA, key), found.values_of(key))


def _facet(field: Field, counts: Counter[str | None]) -> Facet:
    """The facet of these counts. The value None comes last."""
    without = counts.pop(None, 0)
    values = [
        FacetValue(value, size, Term(field, Equal(value)))
        for value, size in counts.most_common(MAX_VALUES)
        if value is not None
    ]
    if without:
        values.append(FacetValue(None, without, Not(Term(field, Exists()))))
    return Facet(field, values, max(len(counts) - MAX_VALUES, 0))


class _Found:
    """Counts the values of the runs with these primary keys, which are sent as a single parameter."""

    def __init__(self, runs: list[int], *, is_capped: bool) -> None:
        self.runs, self.is_capped = runs, is_capped
        if connection.vendor == "sqlite":
            self.rows, self.parameter = "(SELECT value AS id FROM json_each(%s))", json.dumps(runs)
        else:
            self.rows, self.parameter = "(SELECT unnest(%s::bigint[]) AS id)", runs  # type: ignore[assignment]

    @classmethod
    def of(cls, search: RunSearch) -> Self:
        """The newest runs that a search finds."""
        runs = search.newest(MAX_RUNS + 1)
        return cls(runs[:MAX_RUNS], is_capped=len(runs) > MAX_RUNS)

    def columns(self) -> list[Counter[str | None]]:
        """How many runs have each value of FIELDS. One query is enough, since few combinations of values occur."""
        columns = ", ".join(f"run.{column_of(field)}" for field in FIELDS)
        counts: list[Counter[str | None]] = [Counter() for _ in FIELDS]
        rows = self._select(f"{columns}, count(*)", f'"{_RUNS}" run WHERE run.id = found.id GROUP BY {columns}')
        for *values, size in rows:
            for counter, value in zip(counts, values, strict=True):
                counter[value or None] += size
        return counts

    def keys(self) -> list[tuple[str, int]]:
        """The metadata keys, the most frequent first."""
        pairs = f'"{_PAIRS}" pair WHERE pair.run_id = found.id'
        return self._select("pair.key, count(*) AS size", f"{pairs} GROUP BY pair.key ORDER BY size DESC, pair.key")

    def values_of(self, key: str) -> Counter[str | None]:
        pairs = f'"{_PAIRS}" pair WHERE pair.run_id = found.id AND pair.key = %s'
        rows = self._select("pair.value, count(*)", f"{pairs} GROUP BY pair.value", clean(key))
        counts: Counter[str | None] = Counter(dict(rows))
        if without := len(self.runs) - counts.total():
            counts[None] = without
        return counts

    def _select(self, columns: str, joined: str, *parameters: str) -> list[Any]:
        # SQLite reads the tables of a CROSS JOIN in this order: it would otherwise read all pairs with the key.
        sql = f"SELECT {columns} FROM {self.rows} found CROSS JOIN {joined}"  # noqa: S608
        with connection.cursor() as cursor:
            cursor.execute(sql, [self.parameter, *parameters])
            return list(cursor.fetchall())
