"""Bad items: each ends with its reason, and everything else goes on."""

from collections.abc import Callable, Iterator
from typing import Protocol

import pytest
from django.db import connection


class Reject(Protocol):
    def __call__(self, table: str, condition: str, event: str = ...) -> None: ...


_REJECT = {
    "sqlite": """
        CREATE TRIGGER {name} BEFORE {event} ON {table} WHEN {condition} BEGIN SELECT RAISE(ABORT, 'refused'); END""",
    "postgresql": """
        CREATE OR REPLACE FUNCTION refusing() RETURNS trigger AS
            $$ BEGIN RAISE 'refused' USING ERRCODE = 'data_exception'; END $$ LANGUAGE plpgsql;
        CREATE TRIGGER {name} BEFORE {event} ON {table} FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION refusing()""",
}


@pytest.fixture
def reject(transactional_db: None) -> Iterator[Reject]:
    """Has the database refuse some rows of a table, as it refuses a value that no column can hold."""
    created: list[tuple[str, str]] = []

    def reject(table: str, condition: str, event: str = "INSERT") -> None:
        name = f"refusing_{len(created)}"
        with connection.cursor() as cursor:
            cursor.execute(_REJECT[connection.vendor].format(name=name, event=event, table=table, condition=condition))
        created.append((name, table))

    yield reject
    with connection.cursor() as cursor:
        for name, table in created:
            cursor.execute(f"DROP TRIGGER {name}" + f" ON {table}" * (connection.vendor == "postgresql"))


type Lines = Callable[[], list[str]]


@pytest.fixture
def log_lines(capture_log: Callable[[str], object]) -> Lines:
    """The lines that were logged so far, without DEBUG."""
    stream = capture_log("line")
    return lambda: [line for line in stream.getvalue().splitlines() if " DEBUG " not in line]  # type: ignore[attr-defined]
