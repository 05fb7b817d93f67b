"""Which metadata keys and values the mirrored runs have, and how many runs have each.

Both come from the whole table of pairs. Each key or value takes one lookup in an index, however many runs have it, and
counting stops at MAX_COUNT.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import connection

from runsadmin import keyset
from runsadmin.models import MetadataPair
from runsadmin.search.compiling import successor
from runsadmin.services.distinct_texts import DistinctTexts
from runsadmin.services.search_time_limit import limited
from runsadmin.text import clean

MAX_COUNT = 10_000

_TABLE = MetadataPair._meta.db_table


@dataclass(frozen=True)
class Counted:
    """A key or value. `count` is the number of runs that have it, or MAX_COUNT if there are more."""

    text: str
    count: int
    count_is_capped: bool


@dataclass(frozen=True)
class Texts:
    """The metadata keys, or the values of one key, that begin with `prefix`, in byte order."""

    prefix: str = ""
    key: str | None = None

    @property
    def distinct(self) -> DistinctTexts:
        if self.key is None:
            return DistinctTexts(_TABLE, "key", self.prefix)
        return DistinctTexts(_TABLE, "value", self.prefix, "key = %s AND", (clean(self.key),))

    def first(self, size: int) -> list[str]:
        """The first texts, without their counts."""
        with limited():
            return self.distinct.first(size)

    def read_page(self, size: int, *, after: str | None = None, before: str | None = None) -> keyset.Page[Counted]:
        """The page that follows `after` or precedes `before`. Without either, the first page."""
        is_backward = before is not None
        texts = self.distinct
        counted = f'SELECT 1 FROM "{_TABLE}" WHERE {texts.where} {texts.column} = found.text LIMIT %s'  # noqa: S608
        sql, parameters = texts.walk(
            f"SELECT text, (SELECT count(*) FROM ({counted}) AS counted) FROM found"  # noqa: S608
            " WHERE text IS NOT NULL ORDER BY number",
            size + 1,
            before if is_backward else after,
            ascending=not is_backward,
        )
        with limited(), connection.cursor() as cursor:
            cursor.execute(sql, [*parameters, *texts.parameters, MAX_COUNT + 1])
            found = [Counted(text, min(count, MAX_COUNT), count > MAX_COUNT) for text, count in cursor.fetchall()]
        return keyset.page_of(
            found[:size],
            lambda row: (row.text,),
            has_more=len(found) > size,
            is_backward=is_backward,
            is_first=after is None,
        )


def pairs_with_prefix(prefix: str, keys: Sequence[str], limit: int) -> list[tuple[str, str]] | None:
    """The distinct pairs of one of these keys and a value that begins with `prefix`. None if there are too many."""
    begin, end = clean(prefix), successor(clean(prefix))
    if not keys:
        return []
    before_end, ends = ("", []) if end is None else ("AND value < %s", [end])

    def next_value(key: str, condition: str) -> str:
        return (
            f'SELECT value FROM "{_TABLE}" WHERE key = {key} AND value {condition} {before_end}'  # noqa: S608
            " ORDER BY value LIMIT 1"
        )

    sql = (
        f"WITH RECURSIVE found(key, value, number) AS (SELECT column1, ({next_value('column1', '>= %s')}), 1"  # noqa: S608
        f" FROM (VALUES {', '.join(['(%s)'] * len(keys))}) AS keys"
        f" UNION ALL SELECT key, ({next_value('found.key', '> found.value')}), number + 1 FROM found"
        " WHERE value IS NOT NULL AND number <= %s) SELECT key, value FROM found WHERE value IS NOT NULL LIMIT %s"
    )
    with limited(), connection.cursor() as cursor:
        cursor.execute(sql, [begin, *ends, *map(clean, keys), *ends, limit, limit + 1])
        found: list[tuple[str, str]] = cursor.fetchall()
    return found if len(found) <= limit else None
