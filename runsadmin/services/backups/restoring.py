"""Restores backups, in a database that no other process uses."""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

from django.core.management import call_command
from django.db import DatabaseError, connection

from runsadmin.errors import BackupFailed, DatabaseInUse
from runsadmin.services import clock, database_use
from runsadmin.services.backups import holding, making, postgres, sqlite

# A worker whose row is older than this is dead.
_MAX_BEAT_AGE = dt.timedelta(seconds=10)


@dataclass(frozen=True)
class Restored:
    """When the backup was made, how many edits wait in it, and where the replaced database is kept, if it is a file."""

    made_at: dt.datetime
    waiting_edits: int
    migrated: bool
    kept: Path | None


def restore(path: Path, *, ignore_sessions: bool = False) -> Restored:
    """Checks a backup and replaces the database with it. Then nothing is sent until users release it.

    A backup of an older version is migrated. Raises BackupFailed or DatabaseInUse, and then changes nothing.
    """
    contents = making.read(path.absolute())
    if contents.schema.unknown:
        raise BackupFailed(f"This backup cannot be used with this version. {contents.schema.message}")
    try:
        with database_use.exclusive():
            _check_no_worker_lives()
            if connection.vendor == "sqlite":
                loaded = sqlite.loaded(path.absolute())
            else:
                if not ignore_sessions:
                    postgres.check_other_sessions()
                loaded = postgres.loaded(path.absolute())
            with loaded as kept:
                call_command("migrate", verbosity=0, interactive=False)
                waiting = holding.hold_everything(contents.made_at)
    except OSError as error:
        raise BackupFailed(f"{error.filename or path}: {error.strerror}.") from error
    except DatabaseError as error:
        raise BackupFailed(f"The restore failed, and nothing was changed: {error}") from error
    return Restored(contents.made_at, waiting, bool(contents.schema.unapplied), kept)


def _check_no_worker_lives() -> None:
    """Raises DatabaseInUse. Finds workers of earlier versions too, which do not lock the database."""
    since = clock.now() - _MAX_BEAT_AGE
    if worker := sqlite.worker_seen(since) if connection.vendor == "sqlite" else postgres.worker_seen(since):
        raise DatabaseInUse(
            f"The worker {worker} was alive a moment ago. Stop all workers and web processes, then try again. If it "
            f"was killed, wait {_MAX_BEAT_AGE.seconds} seconds."
        )
