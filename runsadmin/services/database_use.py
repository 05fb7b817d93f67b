"""Which processes use the database: each of them holds a shared lock, and a restore needs an exclusive one.

On SQLite, a process locks a file next to the database as soon as it opens it, and until it ends. On PostgreSQL, each
session holds an advisory lock. The operating system and the server release the locks of dead processes. A process that
has not opened the database yet holds none, and needs none: it has read nothing that a restore replaces.
"""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from django.db import DEFAULT_DB_ALIAS, DatabaseError, OperationalError, connection
from django.db.backends.base.base import BaseDatabaseWrapper

from runsadmin import db_errors, private_files
from runsadmin.errors import DatabaseInUse

_ADVISORY_LOCK = 0x72756E7361646D69  # Any number that no other program uses in this database.
_RESTORING = "A backup is being restored. Try again when that has ended."

_files: dict[Path, int] = {}
_lock = threading.Lock()
_is_restoring = threading.Event()


def note_connection(*, connection: BaseDatabaseWrapper, **_: Any) -> None:
    """A receiver of `connection_created`. Raises OperationalError while a backup is restored."""
    if connection.alias != DEFAULT_DB_ALIAS or _is_restoring.is_set():
        return
    if connection.vendor == "sqlite":
        database = Path(str(connection.settings_dict["NAME"]))
        private_files.protect(*sqlite_files(database))
        if not os.access(database, os.W_OK):
            db_errors.note_read_only()
        db_errors.let_close_if_read_only(connection)
        try:
            may_use = _lock_file(database, fcntl.LOCK_SH)
        except OSError:  # The folder is read-only, or the disk is full. The database can still be read.
            may_use = True
    else:
        may_use = _lock_session(connection, "pg_try_advisory_lock_shared")
    if not may_use:
        connection.close()
        raise OperationalError(_RESTORING)


def sqlite_files(database: Path) -> list[Path]:
    """The database and the files that SQLite may keep next to it, with the same permissions."""
    return [database, *(database.with_name(database.name + suffix) for suffix in ("-wal", "-shm", "-journal"))]


def lock_file_of(database: Path) -> Path:
    return database.with_name(f"{database.name}.lock")


@contextmanager
def exclusive() -> Iterator[None]:
    """Keeps all other processes from opening the database. Raises DatabaseInUse if one of them uses it."""
    _lock_exclusively()
    _is_restoring.set()
    try:
        yield
    finally:
        _is_restoring.clear()
        if connection.vendor == "postgresql":
            # Unlock before closing: the server releases the locks of a closed session only after a moment.
            with suppress(DatabaseError):
                connection.cursor().execute("SELECT pg_advisory_unlock_all()")
        connection.close()  # A restore has also changed settings of this session.
        if connection.vendor == "sqlite":
            _lock_file(Path(str(connection.settings_dict["NAME"])), fcntl.LOCK_SH)


def _lock_exclusively() -> None:
    if connection.vendor == "sqlite":
        connection.close()
        if not _lock_file(Path(str(connection.settings_dict["NAME"])), fcntl.LOCK_EX):
            raise DatabaseInUse(_IN_USE)
    elif not _lock_session(connection, "pg_try_advisory_lock"):
        raise DatabaseInUse(_IN_USE)


_IN_USE = "Other processes use the database. Stop all web processes, workers and commands, then try again."


def _lock_file(database: Path, kind: int) -> bool:
    """Locks the file for this process, or changes its lock. Returns whether that was possible.

    The file is never deleted, since a process could then lock another file of the same name.
    """
    with _lock:
        if database not in _files:
            # Lock another file: if this process opened the database itself, closing it would drop SQLite's own locks.
            _files[database] = os.open(lock_file_of(database), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(_files[database], kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if kind == fcntl.LOCK_EX:  # A failed change may have dropped the shared lock.
                fcntl.flock(_files[database], fcntl.LOCK_SH)
            return False
    return True


def _lock_session(wrapper: BaseDatabaseWrapper, function: str) -> bool:
    wrapper.ensure_connection()
    (is_locked,) = wrapper.connection.execute(f"SELECT {function}(%s)", [_ADVISORY_LOCK]).fetchone()
    return bool(is_locked)
