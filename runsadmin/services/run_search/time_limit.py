"""Ends a search that takes too long, so that none occupies a process."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import OperationalError, connection, transaction

from runsadmin.errors import InvalidSearch

SECONDS = 8.0
# SQLite checks the time after this many of its instructions: about a millisecond.
_INSTRUCTIONS = 20_000


@contextmanager
def limited(seconds: float = SECONDS) -> Iterator[None]:
    """Raises InvalidSearch if the statements inside take longer."""
    try:
        with _sqlite(seconds) if connection.vendor == "sqlite" else _postgresql(seconds):
            yield
    except OperationalError as error:
        if _is_timeout(error):
            raise InvalidSearch(
                f"This search takes more than {seconds:g} seconds. Add what fewer runs match, such as a time"
                " (created:>-7d) or a pair that few runs have."
            ) from error
        raise


def _is_timeout(error: OperationalError) -> bool:
    cause = error.__cause__
    return "interrupted" in str(error) or getattr(cause, "sqlstate", "") == "57014"


@contextmanager
def _sqlite(seconds: float) -> Iterator[None]:
    connection.ensure_connection()
    until = time.monotonic() + seconds
    connection.connection.set_progress_handler(lambda: time.monotonic() > until, _INSTRUCTIONS)
    try:
        yield
    finally:
        connection.connection.set_progress_handler(None, _INSTRUCTIONS)


@contextmanager
def _postgresql(seconds: float) -> Iterator[None]:
    set_timeout = "SELECT set_config('statement_timeout', %s, true)"
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('statement_timeout')")
        (before,) = cursor.fetchone()
        cursor.execute(set_timeout, [str(int(seconds * 1000))])
        yield
        # The transaction may go on; after an error, the rollback restores it.
        cursor.execute(set_timeout, [before])
