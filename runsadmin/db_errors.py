"""Failures of the database itself: unreachable, locked, full, read-only or damaged.

The response says whether anything may have been saved: `watching` observes the statements of the request.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from sqlite3 import SQLITE_CORRUPT, SQLITE_ERROR, SQLITE_NOTADB, SQLITE_READONLY
from typing import Any

from django.db import DataError, Error, InterfaceError, OperationalError, connection
from django.db.backends.base.base import BaseDatabaseWrapper

# The SQLSTATE of a server that rejects writes, such as a standby after a failover.
_READ_ONLY = "25006"
# The class of SQLSTATEs for a value that exceeds a limit of PostgreSQL, such as the size of an index row.
_LIMIT_EXCEEDED = "54"
_OUT_OF_RANGE = "22003"

# In seconds. All connections of the process must have been closed at some moment before SQLite opens the file again.
_KEEP_NONE_FOR = 60.0
_keep_none_until = 0.0  # By time.monotonic().

_may_have_saved: ContextVar[bool] = ContextVar("may_have_saved", default=False)


def is_database_failure(error: BaseException | None) -> bool:
    """Whether a failure of the database caused the error, directly or through a chain of exceptions."""
    return failure_behind(error) is not None


def failure_behind(error: BaseException | None) -> Error | None:
    """The failure of the database that caused the error, directly or through a chain of exceptions."""
    while error is not None:
        if isinstance(error, OperationalError | InterfaceError) and not _is_refusal(_code(error)):
            return error
        if isinstance(error, Error) and (_code(error) == _READ_ONLY or is_damaged(error)):
            return error
        error = error.__cause__ or error.__context__
    return None


def described(failure: Error) -> str:
    """What is wrong with the database, in one line."""
    what = str(failure).partition("\n")[0].rstrip(". ")
    if is_damaged(failure):
        return f"The database file is damaged ({what}). Restore a backup."
    return f"The database failed: {what}."


def is_damaged(error: BaseException | None) -> bool:
    """Whether SQLite found that its file is damaged, or is not a database."""
    return isinstance(error, Error) and _primary_code(error) in (SQLITE_CORRUPT, SQLITE_NOTADB)


def _is_refusal(code: object) -> bool:
    """Whether the database works but refuses this statement, and would refuse it again."""
    # SQLITE_ERROR means an invalid statement or a missing table.
    return code == SQLITE_ERROR or (isinstance(code, str) and code.startswith(_LIMIT_EXCEEDED))


def is_out_of_range(error: BaseException) -> bool:
    """Whether a number is too large for its column. In a web request, it comes from the client."""
    if isinstance(error, DataError):
        return _code(error) == _OUT_OF_RANGE
    return isinstance(error, OverflowError) and "SQLite" in str(error)


def note_if_read_only(error: Error) -> None:
    if _primary_code(error) == SQLITE_READONLY:
        note_read_only()


def note_read_only() -> None:
    """Notes that SQLite cannot write to its files, or could not when it opened them."""
    global _keep_none_until
    _keep_none_until = time.monotonic() + _KEEP_NONE_FOR


def let_close_if_read_only(wrapper: BaseDatabaseWrapper) -> None:
    """Lets Django close the connection at the end of the request if the files were read-only within the last minute.

    A file that SQLite could not open for writing stays read-only for as long as it is open, and all connections of a
    process share one of the files.
    """
    if time.monotonic() < _keep_none_until:
        wrapper.close_at = 0


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
    # No statement here writes in a WITH.
    writes = not sql.lstrip().startswith(("SELECT", "WITH", "BEGIN"))
    try:
        result = execute(sql, params, many, context)
    except Error as error:
        note_if_read_only(error)
        let_close_if_read_only(context["connection"])
        # An error code means that the database refused the statement and did not execute it.
        if writes and _code(error) is None:
            _may_have_saved.set(True)
        raise
    if writes:
        _note_write(context["connection"])
    return result


def _note_write(wrapper: BaseDatabaseWrapper) -> None:
    if wrapper.vendor == "sqlite" and wrapper.in_atomic_block:
        # SQLite rolls back a transaction whose COMMIT fails, such as on a full disk.
        wrapper.on_commit(partial(_may_have_saved.set, True))
    else:
        # Even if a transaction seems to fail later, it may be saved: the response to its COMMIT may have been lost.
        _may_have_saved.set(True)


def _code(error: Error) -> object:
    """The error code of PostgreSQL or SQLite. None if there is none."""
    cause = error.__cause__
    return getattr(cause, "sqlstate", None) or getattr(cause, "sqlite_errorcode", None)


def _primary_code(error: Error) -> int | None:
    """The error code of SQLite, without what an extended code adds to it."""
    code = getattr(error.__cause__, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
