"""The distinct texts of an indexed column. Each is found by one lookup in the index, however many rows have it."""

from dataclasses import dataclass

from django.db import connection

from runsadmin.search.compiling import successor
from runsadmin.text import clean


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

    def first(self, size: int, start: str | None = None) -> list[str]:
        """The first texts after `start`."""
        sql, parameters = self.walk("SELECT text FROM found WHERE text IS NOT NULL ORDER BY number", size, start)
        with connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return [text for (text,) in cursor.fetchall()]

    def walk(
        self, select: str, size: int, start: str | None = None, *, ascending: bool = True
    ) -> tuple[str, list[str | int]]:
        """A statement that runs `select` on `found`, which has the first `size` texts beyond `start`.

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
            f" WHERE text IS NOT NULL AND number < %s) {select}"
        )
        limits = [] if limit is None else [limit]
        return sql, [*self.parameters, first, *limits, *self.parameters, *limits, size]
