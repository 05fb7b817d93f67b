"""Failures of the database itself: unreachable, locked, full or read-only. They are temporary.

The response says whether anything may have been saved: `watching` observes the statements of the request.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from sqlite3 import SQLITE_ERROR
from typing import Any

from django.db import DataError, Error, InterfaceError, OperationalError, connection

# The SQLSTATE of a server that rejects writes, such as a standby after a failover.
_READ_ONLY = "25006"
# The class of SQLSTATEs for a value that exceeds a limit of PostgreSQL, such as the size of an index row.
_LIMIT_EXCEEDED = "54"
_OUT_OF_RANGE = "22003"

_may_have_saved: ContextVar[bool] = ContextVar("may_have_saved", default=False)


def is_database_failure(error: BaseException | None) -> bool:
    """Whether a failure of the database caused the error, directly or through a chain of exceptions."""
    while error is not None:
        if isinstance(error, OperationalError | InterfaceError) and not _is_refusal(_code(error)):
            return True
        if isinstance(error, Error) and _code(error) == _READ_ONLY:
            return True
        error = error.__cause__ or error.__context__
    return False


def _is_refusal(code: object) -> bool:
    """Whether the database works but refuses this statement, and would refuse it again."""
    # SQLITE_ERROR means an invalid statement or a missing table.
    return code == SQLITE_ERROR or (isinstance(code, str) and code.startswith(_LIMIT_EXCEEDED))


def is_out_of_range(error: BaseException) -> bool:
    """Whether a number is too large for its column. In a web request, it comes from the client."""
    if isinstance(error, DataError):
        return _code(error) == _OUT_OF_RANGE
    return isinstance(error, OverflowError) and "SQLite" in str(error)


def may_have_saved() -> bool:
    """Whether anything was written since `watching` began, or may have been written because the response was lost."""
    return _may_have_saved.get()


@contextmanager
def watching() -> Iterator[None]:
    _may_have_saved.set(False)
    with connection.execute_wrapper(_watch):
        yield


@contextmanager
def not_watching() -> Iterator[None]:
    """For statements that have nothing to do with what the request saves."""
    before = _may_have_saved.get()
    try:
        yield
    finally:
        _may_have_saved.set(before)


def _watch(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
    if sql.lstrip().startswith(("SELECT", "WITH", "BEGIN")):  # No statement here writes in a WITH.
        return execute(sql, params, many, context)
    try:
        result = execute(sql, params, many, context)
    except Error as error:
        # An error code means that the database refused the statement and did not execute it.
        if _code(error) is None:
            _may_have_saved.set(True)
        raise
    # Even if the transaction seems to fail later, it may be saved: the response to its COMMIT may have been lost.
    _may_have_saved.set(True)
    return result


def _code(error: Error) -> object:
    """The error code of PostgreSQL or SQLite. None if there is none."""
    cause = error.__cause__
    return getattr(cause, "sqlstate", None) or getattr(cause, "sqlite_errorcode", None)
