"""Ends a search that takes too long, so that none occupies a process."""

import time
from collections.abc import Iterator, Mapping
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
    """Also keeps PostgreSQL from reading whole tables, which it does if it expects to find enough rows soon."""
    wanted = {"statement_timeout": str(int(seconds * 1000)), "enable_seqscan": "off"}
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('statement_timeout'), current_setting('enable_seqscan')")
        before = dict(zip(wanted, cursor.fetchone(), strict=True))
        _set(wanted)
        yield
        # The transaction may go on; after an error, the rollback restores them.
        _set(before)


def _set(values: Mapping[str, str]) -> None:
    with connection.cursor() as cursor:
        for name, value in values.items():
            cursor.execute("SELECT set_config(%s, %s, true)", [name, value])
