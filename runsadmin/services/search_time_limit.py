"""Stops a search that takes too long, so that it does not occupy a process."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from django.db import OperationalError, connection, transaction

from runsadmin.errors import InvalidSearch

SECONDS = 8.0
# SQLite checks the time after this many of its instructions: about a millisecond.
_INSTRUCTIONS = 20_000
# PostgreSQL's timeout is shortened once it exceeds the remaining time by more than this many seconds.
_SLACK = 0.25

_is_limited: ContextVar[bool] = ContextVar("is_limited", default=False)


@contextmanager
def limited(seconds: float | None = None, *, may_read_tables: bool = False) -> Iterator[None]:
    """Raises InvalidSearch if the block takes longer than `seconds`, which are SECONDS by default.

    In a nested block, the outer limit applies. Unless `may_read_tables` is set, PostgreSQL may not read whole tables,
    as it otherwise does when it expects to find enough rows soon.
    """
    if _is_limited.get() or seconds == math.inf:
        yield
        return
    limit = _Limit(SECONDS if seconds is None else seconds)
    token = _is_limited.set(True)
    try:
        with limit.of_database(may_read_tables), connection.execute_wrapper(limit):
            yield
    except OperationalError as error:
        if _is_timeout(error):
            raise limit.exceeded() from error
        raise
    finally:
        _is_limited.reset(token)


class _Limit:
    def __init__(self, seconds: float) -> None:
        self.seconds = self.timeout = seconds
        self.until = time.monotonic() + seconds

    def exceeded(self) -> InvalidSearch:
        return InvalidSearch(
            f"This search takes more than {self.seconds:g} seconds. Narrow it down, for example by a time"
            " (created:>-7d) or a pair that few runs have."
        )

    def __call__(
        self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Mapping[str, Any]
    ) -> Any:
        """Called before each statement, since the limit is for all statements together."""
        left = self.until - time.monotonic()
        if left <= 0:
            raise self.exceeded()
        if connection.vendor == "postgresql" and self.timeout > left + _SLACK:
            self.timeout = left
            _set({"statement_timeout": _milliseconds(left)})
        return execute(sql, params, many, context)

    def of_database(self, may_read_tables: bool) -> Any:
        return self._sqlite() if connection.vendor == "sqlite" else self._postgresql(may_read_tables)

    @contextmanager
    def _sqlite(self) -> Iterator[None]:
        connection.ensure_connection()
        connection.connection.set_progress_handler(lambda: time.monotonic() > self.until, _INSTRUCTIONS)
        try:
            yield
        finally:
            connection.connection.set_progress_handler(None, _INSTRUCTIONS)

    @contextmanager
    def _postgresql(self, may_read_tables: bool) -> Iterator[None]:
        # PostgreSQL cannot interrupt its compiler, which takes seconds for a search with many terms.
        wanted = {"statement_timeout": _milliseconds(self.seconds), "jit": "off"}
        if not may_read_tables:
            wanted["enable_seqscan"] = "off"
        continues = connection.in_atomic_block  # If not, the settings end with the transaction below.
        with transaction.atomic(), postgresql_settings(wanted, restore=continues):
            yield


@contextmanager
def postgresql_settings(wanted: Mapping[str, str], *, restore: bool = True) -> Iterator[None]:
    """Applies settings to the statements in the block, within a transaction. Does nothing on SQLite."""
    if connection.vendor != "postgresql" or not wanted:
        yield
        return
    before = _current(wanted) if restore else {}
    _set(wanted)
    yield
    # The transaction may continue. After an error, its rollback restores the settings.
    if restore:
        _set(before)


def _is_timeout(error: OperationalError) -> bool:
    cause = error.__cause__
    return "interrupted" in str(error) or getattr(cause, "sqlstate", "") == "57014"


def _milliseconds(seconds: float) -> str:
    return str(max(1, int(seconds * 1000)))


def _current(names: Iterable[str]) -> dict[str, str]:
    names = list(names)
    columns = ", ".join(["current_setting(%s)"] * len(names))
    return dict(zip(names, _execute(f"SELECT {columns}", *names).fetchone(), strict=True))


def _set(values: Mapping[str, str]) -> None:
    columns = ", ".join(["set_config(%s, %s, true)"] * len(values))
    _execute(f"SELECT {columns}", *(part for item in values.items() for part in item))


def _execute(sql: str, *parameters: str) -> Any:
    """Does not use a Django cursor, for which the limit would be checked again."""
    with connection.wrap_database_errors:
        return connection.connection.execute(sql, parameters)
