"""Makes backups while other processes use the database, and checks each before it gets its name."""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

from django.db import DatabaseError, connection
from django.db.migrations.recorder import MigrationRecorder

from runsadmin import private_files
from runsadmin.errors import BackupFailed
from runsadmin.services import clock, schema
from runsadmin.services.backups import contents, postgres, sqlite
from runsadmin.services.backups.contents import Contents

# How many backups `before_migrating` keeps.
KEPT = 3
_BEFORE = "before-migrating-"


@dataclass(frozen=True)
class Backup:
    path: Path
    size: int
    made_at: dt.datetime


def create(path: Path, *, overwrite: bool = False) -> Backup:
    """Makes a backup and checks all of it. Raises BackupFailed, and then leaves no file."""
    path = path.absolute()
    try:
        with private_files.written(path, overwrite=overwrite) as part:
            if connection.vendor == "sqlite":
                sqlite.dump(part, clock.now())
            else:
                postgres.dump(part)
            made_at = read(part).made_at
    except FileExistsError:
        raise BackupFailed(f"{path} exists already. Choose another name, or use --overwrite.") from None
    except OSError as error:
        raise BackupFailed(f"{error.filename or path}: {error.strerror}.") from error
    except DatabaseError as error:
        raise BackupFailed(f"The database cannot be read: {error}") from error
    return Backup(path, path.stat().st_size, made_at)


def read(path: Path) -> Contents:
    """Checks a backup, and says what it has. Raises BackupFailed."""
    contents.check_database(path, connection.vendor)
    return sqlite.read(path) if connection.vendor == "sqlite" else postgres.read(path)


def before_migrating(folder: Path) -> Backup | None:
    """Backs up a SQLite database that has migrations to apply, and deletes the oldest of these backups.

    Returns None if no backup is needed.
    """
    if connection.vendor != "sqlite" or not sqlite.database().exists():
        return None
    # Without tables of this app, nothing can be lost: the first migrations may have been interrupted.
    has_tables = any(app == "runsadmin" for app, _ in MigrationRecorder(connection).applied_migrations())
    if not has_tables or not schema.difference().unapplied:
        return None
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    backup = create(folder / f"{_BEFORE}{clock.now():%Y%m%dT%H%M%S%f}.sqlite3")
    for old in sorted(folder.glob(f"{_BEFORE}*.sqlite3"))[:-KEPT]:
        old.unlink()
    return backup
