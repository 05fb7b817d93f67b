"""Which metadata keys and values the mirrored runs have, and how many runs have each.

Both come from the whole table of pairs. Each key or value takes one lookup in an index, however many runs have it, and
counting stops at MAX_COUNT.
"""

from dataclasses import dataclass

from django.db import connection

from runsadmin import keyset
from runsadmin.models import MetadataPair
from runsadmin.search.compiling import successor
from runsadmin.services.search_time_limit import limited
from runsadmin.text import clean

MAX_COUNT = 10_000

_TABLE = f'"{MetadataPair._meta.db_table}"'


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

    def first(self, size: int) -> list[str]:
        """The first texts, without their counts."""
        with limited(), connection.cursor() as cursor:
            sql, parameters = self._walk("SELECT text FROM found WHERE text IS NOT NULL ORDER BY number", size)
            cursor.execute(sql, parameters)
            return [text for (text,) in cursor.fetchall()]

    def read_page(self, size: int, *, after: str | None = None, before: str | None = None) -> keyset.Page[Counted]:
        """The page that follows `after` or precedes `before`. Without either, the first page."""
        is_backward = before is not None
        counted = f"SELECT 1 FROM {_TABLE} WHERE {self._where} {self._column} = found.text LIMIT %s"  # noqa: S608
        sql, parameters = self._walk(
            f"SELECT text, (SELECT count(*) FROM ({counted}) AS counted) FROM found"  # noqa: S608
            " WHERE text IS NOT NULL ORDER BY number",
            size + 1,
            before if is_backward else after,
            ascending=not is_backward,
        )
        with limited(), connection.cursor() as cursor:
            cursor.execute(sql, [*parameters, *self._parameters, MAX_COUNT + 1])
            found = [Counted(text, min(count, MAX_COUNT), count > MAX_COUNT) for text, count in cursor.fetchall()]
        return keyset.page_of(
            found[:size],
            lambda row: (row.text,),
            has_more=len(found) > size,
            is_backward=is_backward,
            is_first=after is None,
        )

    @property
    def _column(self) -> str:
        return "key" if self.key is None else "value"

    @property
    def _where(self) -> str:
        return "" if self.key is None else "key = %s AND"

    @property
    def _parameters(self) -> list[str | int]:
        return [] if self.key is None else [clean(self.key)]

    def _walk(
        self, select: str, size: int, start: str | None = None, *, ascending: bool = True
    ) -> tuple[str, list[str | int]]:
        """A statement that selects from `found`: the first `size` texts beyond `start`, each found by the last one.

        Every lookup has one limit on each side, since SQLite uses no more of them.
        """
        begin, end = clean(self.prefix), successor(clean(self.prefix))
        start = None if start is None else clean(start)
        sign, direction, limit = (">", "ASC", end) if ascending else ("<", "DESC", begin)
        if ascending:
            first_sign, first = (">=", begin) if start is None or start < begin else (">", start)
        else:
            first_sign, first = "<", min(text for text in (start, end) if text is not None)
        limit_sql = "" if limit is None else f"AND {self._column} {'<' if ascending else '>='} %s"

        def next_text(sign: str, place: str) -> str:
            return (
                f"SELECT {self._column} FROM {_TABLE} WHERE {self._where} {self._column} {sign} {place} {limit_sql}"  # noqa: S608
                f" ORDER BY {self._column} {direction} LIMIT 1"
            )

        sql = (
            f"WITH RECURSIVE found(text, number) AS (SELECT ({next_text(first_sign, '%s')}), 1"  # noqa: S608
            f" UNION ALL SELECT ({next_text(sign, 'found.text')}), number + 1 FROM found"
            f" WHERE text IS NOT NULL AND number < %s) {select}"
        )
        limits = [] if limit is None else [limit]
        return sql, [*self._parameters, first, *limits, *self._parameters, *limits, size]
