"""Reads several index ranges side by side instead of looking up every run of one range in the others."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.db.models import Q, QuerySet
from django.db.models.expressions import RawSQL

from runsadmin import keyset
from runsadmin.models import Run
from runsadmin.models.run import COLUMNS_OF_NEWEST
from runsadmin.search import And, Node, Not, Or, Term
from runsadmin.search.compiling import columns
from runsadmin.search.fields import METADATA
from runsadmin.services.run_search.sources import Cover, Source
from runsadmin.services.search_time_limit import postgresql_settings

# SQLite permits 500 selects in one statement.
_MAX_SOURCES = 50
_CREATED_AT = Run._meta.get_field("created_at")


@dataclass(frozen=True)
class Ranges:
    """Ordered sources that hold exactly the runs that a part of a search matches or, if `excluded`, does not match."""

    part: Node
    sources: tuple[Source, ...]
    excluded: bool = False


def ranges(parts: Iterable[Node], covers: Mapping[Node, Cover]) -> list[Ranges]:
    """The ranges of the parts that can be merged. In `covers`, a negated part has the cover of what it negates."""
    found: list[Ranges] = []
    left = _MAX_SOURCES
    for part in parts:
        cover = covers.get(part)
        if cover is None or not cover.can_be_merged:
            continue
        if len(cover.sources) <= (left if isinstance(part, Not) else 1):
            left -= len(cover.sources)
            found.append(Ranges(part, cover.sources, excluded=isinstance(part, Not)))
    return found


def is_in_newest(node: Node) -> bool:
    """Whether the index of the newest runs has all columns that a node tests."""
    match node:
        case And(nodes) | Or(nodes):
            return all(map(is_in_newest, nodes))
        case Not(excluded):
            return is_in_newest(excluded)
        case Term(field) if field.name != METADATA:
            return columns(node) <= {"created_at", *COLUMNS_OF_NEWEST}
    return False


@dataclass(frozen=True)
class Span:
    """`count` runs after a key, in either direction of the list."""

    count: int
    after: keyset.Key | None
    ascending: bool

    def keys(self, source: Source) -> QuerySet[Any]:
        """The source's keys after the span's key, in order."""
        rows = source.rows
        if self.after is not None:
            rows = rows.filter(keyset.is_after(source.order, self.after, ascending=self.ascending))
        ordered: QuerySet[Any] = rows.order_by(*(field if self.ascending else f"-{field}" for field in source.order))
        return ordered.values_list(*source.order)


def read_keys(
    driver: Source, others: Sequence[Ranges], span: Span, tested: Q | None = None
) -> Iterator[tuple[Any, int]]:
    """The first keys of the driver's runs that are in all of the other ranges, but in none of the excluded ones.

    Only runs found in this way are looked up to test the condition `tested`.
    """
    selects = [_Select(span.keys(driver))]
    selects += [_Select(span.keys(source), excluded=each.excluded) for each in others for source in each.sources]
    join = _compound if connection.vendor == "sqlite" else _joins
    sql = join(selects, "ASC" if span.ascending else "DESC")
    params = [param for select in selects for param in select.params]
    if tested is not None:
        runs = Run.objects.filter(tested, pk=RawSQL("merged.id", ()))
        condition, its_params = runs.order_by().values("pk").query.sql_with_params()
        # Without this clause, SQLite might not keep the order, and PostgreSQL would test the condition first.
        all_rows = "LIMIT -1" if connection.vendor == "sqlite" else "OFFSET 0"
        sql = f"WITH merged (created_at, id) AS ({sql} {all_rows}) SELECT created_at, id FROM merged"  # noqa: S608
        sql += f" WHERE EXISTS ({condition} {all_rows})"
        params += its_params
    sql += f" LIMIT {span.count}"
    # Not as model instances, which take five times as long.
    with postgresql_settings(MERGE_JOINS), connection.cursor() as cursor:
        cursor.execute(sql, params)
        return ((_CREATED_AT.from_db_value(time, None, connection), pk) for time, pk in cursor.fetchall())


class _Select:
    def __init__(self, keys: QuerySet[Any], *, excluded: bool = False) -> None:
        # SQLite permits no order in the parts of a compound select.
        self.sql, self.params = (keys.order_by() if connection.vendor == "sqlite" else keys).query.sql_with_params()
        self.excluded = excluded


def _compound(selects: Sequence[_Select], direction: str) -> str:
    first, *others = selects
    parts = [first.sql, *(f"{'EXCEPT' if each.excluded else 'INTERSECT'} {each.sql}" for each in others)]
    return f"{' '.join(parts)} ORDER BY 1 {direction}, 2 {direction}"


# PostgreSQL would read all rows for an INTERSECT or EXCEPT, but it joins ordered rows only as far as necessary.
MERGE_JOINS = dict.fromkeys(("enable_bitmapscan", "enable_hashjoin", "enable_nestloop", "enable_sort"), "off")


def _joins(selects: Sequence[_Select], direction: str) -> str:
    driver, *others = selects
    sql = f"SELECT driver.created_at, driver.id FROM ({driver.sql}) AS driver (created_at, id)"  # noqa: S608
    for number, each in enumerate(others):
        name = f"other_{number}"
        sql += f" {'LEFT ' if each.excluded else ''}JOIN ({each.sql}) AS {name} (created_at, id)"
        sql += f" ON {name}.created_at = driver.created_at AND {name}.id = driver.id"
    missing = [f"other_{number}.id IS NULL" for number, each in enumerate(others) if each.excluded]
    where = f" WHERE {' AND '.join(missing)}" if missing else ""
    return f"{sql}{where} ORDER BY driver.created_at {direction}, driver.id {direction}"
