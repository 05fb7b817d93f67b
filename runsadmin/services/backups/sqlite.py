"""Backups of SQLite: copies of the database file, made with SQLite's own online backup."""

import datetime as dt
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from django.db import connection

from runsadmin import private_files
from runsadmin.errors import BackupFailed, DatabaseInUse
from runsadmin.services import clock
from runsadmin.services.backups.contents import Contents
from runsadmin.services.database_use import sqlite_files

# In seconds.
_TIMEOUT = 20.0
# A table that only backups have.
_TABLE = "runsadmin_backup"


def database() -> Path:
    return Path(str(connection.settings_dict["NAME"]))


def dump(target: Path, made_at: dt.datetime) -> None:
    """Copies the database into an empty file while other processes use it."""
    if not database().exists():
        raise BackupFailed(f"There is no database at {database()}.")
    with _errors():
        copy(database(), target)
        with closing(_opened(target)) as file:
            # One file, without a write-ahead log next to it.
            file.execute("PRAGMA journal_mode=DELETE")
            file.execute(f"CREATE TABLE {_TABLE} AS SELECT ? AS made_at", [made_at.isoformat()])


def copy(source: Path, target: Path) -> None:
    with closing(_opened(source)) as original, closing(_opened(target)) as file:
        # In one step: after every write of another process, smaller steps would start from the beginning.
        original.backup(file, pages=-1)


def read(path: Path) -> Contents:
    """Checks the whole file. Raises BackupFailed."""
    with _errors(), closing(_opened(path)) as file:
        file.execute("PRAGMA query_only=ON")
        (result,) = file.execute("PRAGMA integrity_check(1)").fetchone()
        if result != "ok":
            raise BackupFailed(f"The backup is damaged: {result}. Use another one.")
        if broken := file.execute("PRAGMA foreign_key_check").fetchone():
            raise BackupFailed(
                f"The backup is damaged: a row of {broken[0]} refers to one that does not exist. Use another one."
            )
        tables = {name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        applied = file.execute("SELECT app, name FROM django_migrations") if "django_migrations" in tables else ()
        if _TABLE in tables:
            (text,) = file.execute("SELECT made_at FROM runsadmin_backup").fetchone()
            made_at = dt.datetime.fromisoformat(text)
        else:  # A copy that was made with another program.
            made_at = dt.datetime.fromtimestamp(path.stat().st_mtime, dt.UTC)
        return Contents.of(made_at, applied)


# --- Restoring


@contextmanager
def loaded(path: Path) -> Iterator[Path | None]:
    """Copies a backup into a new file, which the block prepares as the default database. Then it replaces the database.

    Yields the name under which the replaced database is kept, or None if there is none. If the block fails, the
    database stays as it was.
    """
    current = database()
    connection.close()
    _check_is_closed(current)
    private_files.delete_unfinished(current)
    aside = _name_aside(current)
    with _errors(), private_files.written(current, overwrite=True) as part:
        copy(path, part)
        with closing(_opened(part)) as file:
            file.execute(f"DROP TABLE IF EXISTS {_TABLE}")
        connection.settings_dict["NAME"] = str(part)
        try:
            yield aside
        finally:
            connection.close()
            connection.settings_dict["NAME"] = str(current)
        with closing(_opened(part)) as file:
            file.execute("PRAGMA journal_mode=DELETE")
        if aside is not None:
            _keep(current, aside)


def worker_seen(since: dt.datetime) -> str:
    """The id of a worker that was alive after this time. Empty if there is none, or if the database is damaged."""
    if not database().exists():
        return ""
    try:
        with closing(_opened(database())) as file:
            query = "SELECT id FROM runsadmin_worker WHERE seen_at > ?"
            row = file.execute(query, [f"{since:%Y-%m-%d %H:%M:%S.%f}"]).fetchone()
    except sqlite3.DatabaseError:
        return ""
    return str(row[0]) if row else ""


def _name_aside(current: Path) -> Path | None:
    return current.with_name(f"{current.name}.replaced-{clock.now():%Y%m%dT%H%M%S%f}") if current.exists() else None


def _keep(current: Path, aside: Path) -> None:
    """Keeps the current database under another name, with the files next to it.

    A write-ahead log that stayed would be applied to the restored database, and damage it.
    """
    for old, new in zip(sqlite_files(current), sqlite_files(aside), strict=True):
        if old == current:
            private_files.add_name(old, new)  # The restored file then replaces the old name.
        elif old.exists():
            old.replace(new)


def _check_is_closed(current: Path) -> None:
    """Raises DatabaseInUse if any program has the database open. Also moves its write-ahead log into the database."""
    if not current.exists():
        return
    try:
        with closing(_opened(current, timeout=0.0)) as file:
            file.execute("PRAGMA locking_mode=EXCLUSIVE")
            file.execute("BEGIN EXCLUSIVE")
            file.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
            raise DatabaseInUse(f"Another program has {current} open. Close it, then try again.") from None
    except sqlite3.DatabaseError:
        pass  # It is damaged, which may be the reason for the restore.


def _opened(path: Path, timeout: float = _TIMEOUT) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=timeout, isolation_level=None)


@contextmanager
def _errors() -> Iterator[None]:
    """Raises BackupFailed for errors of the files."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise BackupFailed(f"SQLite failed: {error}.") from error
    except OSError as error:
        raise BackupFailed(f"{error.filename or 'A file'}: {error.strerror}.") from error
