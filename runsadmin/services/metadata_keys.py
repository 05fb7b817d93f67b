"""Which metadata keys and values the mirrored runs have, and how many runs have each.

Keys and values come from the whole table of pairs, not only from the runs of a search.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import connection

from runsadmin import keyset
from runsadmin.models import MetadataPair
from runsadmin.search.compiling import successor
from runsadmin.services.distinct_texts import Counted, DistinctTexts
from runsadmin.services.search_time_limit import limited
from runsadmin.text import clean

_TABLE = MetadataPair._meta.db_table


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
        with limited():
            found = self.distinct.first(size + 1, before if is_backward else after, ascending=not is_backward)
            counted = self.distinct.counted(found[:size])
        return keyset.page_of(
            counted,
            lambda row: (row.text,),
            has_more=len(found) > size,
            is_backward=is_backward,
            is_first=after is None,
        )


def pairs_with_prefix(prefix: str, keys: Sequence[str], limit: int) -> list[tuple[str, str]]:
    """The distinct pairs with one of these keys and a value that begins with `prefix`, at most `limit` of them."""
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
        " WHERE value IS NOT NULL AND number < %s) SELECT key, value FROM found WHERE value IS NOT NULL LIMIT %s"
    )
    with limited(), connection.cursor() as cursor:
        cursor.execute(sql, [begin, *ends, *map(clean, keys), *ends, limit, limit])
        return list(cursor.fetchall())
