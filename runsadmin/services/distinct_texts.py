"""The distinct texts of an indexed column, and how many rows have each.

Each text is found by one lookup in the index, however many rows have it. Counting stops at MAX_COUNT.
"""

from collections.abc import Collection
from dataclasses import dataclass

from django.db import connection

from runsadmin.search.compiling import successor
from runsadmin.text import clean

MAX_COUNT = 10_000


@dataclass(frozen=True)
class Counted:
    """A text. `count` is the number of rows that have it, or MAX_COUNT if there are more."""

    text: str
    count: int
    count_is_capped: bool


@dataclass(frozen=True)
class DistinctTexts:
    """The texts that begin with `prefix`, in byte order, from one column of the rows that meet the condition `where`.

    `where` is SQL that is empty or ends with AND. `parameters` are its parameters.
    """

    table: str
    column: str
    prefix: str = ""
    where: str = ""
    parameters: tuple[str, ...] = ()

    def first(self, size: int, start: str | None = None, *, ascending: bool = True) -> list[str]:
        """The first texts after `start` in ascending order, or those before it in descending order."""
        sql, parameters = self._walk(size, start, ascending=ascending)
        with connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return [text for (text,) in cursor.fetchall()]

    def counted(self, texts: Collection[str]) -> list[Counted]:
        """These texts, each with the number of rows that have it, which may be 0."""
        if not texts:
            return []
        rows = f'SELECT 1 FROM "{self.table}" WHERE {self.where} {self.column} = texts.column1 LIMIT %s'  # noqa: S608
        sql = (
            f"SELECT column1, (SELECT count(*) FROM ({rows}) AS counted)"  # noqa: S608
            f" FROM (VALUES {', '.join(['(%s)'] * len(texts))}) AS texts"
        )
        with connection.cursor() as cursor:
            cursor.execute(sql, [*self.parameters, MAX_COUNT + 1, *map(clean, texts)])
            found = dict(cursor.fetchall())
        counts = [(text, found[clean(text)]) for text in texts]
        return [Counted(text, min(count, MAX_COUNT), count > MAX_COUNT) for text, count in counts]

    def _walk(self, size: int, start: str | None, *, ascending: bool) -> tuple[str, list[str | int]]:
        """The statement that reads the texts, and its parameters.

        Each text is looked up from the one before. A lookup has at most one lower and one upper limit, since SQLite
        uses only one of each.
        """
        begin, end = clean(self.prefix), successor(clean(self.prefix))
        start = None if start is None else clean(start)
        sign, direction, limit = (">", "ASC", end) if ascending else ("<", "DESC", begin)
        if ascending:
            first_sign, first = (">=", begin) if start is None or start < begin else (">", start)
        else:
            first_sign, first = "<", min(text for text in (start, end) if text is not None)
        limit_sql = "" if limit is None else f"AND {self.column} {'<' if ascending else '>='} %s"

        def next_text(sign: str, text: str) -> str:
            return (
                f'SELECT {self.column} FROM "{self.table}" WHERE {self.where} {self.column} {sign} {text} {limit_sql}'  # noqa: S608
                f" ORDER BY {self.column} {direction} LIMIT 1"
            )

        sql = (
            f"WITH RECURSIVE found(text, number) AS (SELECT ({next_text(first_sign, '%s')}), 1"  # noqa: S608
            f" UNION ALL SELECT ({next_text(sign, 'found.text')}), number + 1 FROM found"
            f" WHERE text IS NOT NULL AND number < %s)"
            " SELECT text FROM found WHERE text IS NOT NULL ORDER BY number"
        )
        limits = [] if limit is None else [limit]
        return sql, [*self.parameters, first, *limits, *self.parameters, *limits, size]
