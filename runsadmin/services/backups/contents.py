"""What a backup has, and how its database is recognized."""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from runsadmin.errors import BackupFailed
from runsadmin.services import schema
from runsadmin.services.schema import Difference, Migration

_BEGINNINGS = {b"SQLite format 3\0": "sqlite", b"PGDMP": "postgresql"}
_NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


@dataclass(frozen=True)
class Contents:
    """When the backup was made, and how its schema differs from the code's."""

    made_at: dt.datetime
    schema: Difference

    @classmethod
    def of(cls, made_at: dt.datetime, applied: Iterable[Migration]) -> "Contents":
        """Raises BackupFailed if it has no tables of this app."""
        migrations = set(applied)
        if not any(app == "runsadmin" for app, _ in migrations):
            raise BackupFailed("The backup has no tables of runsadmin. Use another one.")
        return cls(made_at, schema.compare(migrations))


def check_database(path: Path, vendor: str) -> None:
    """Raises BackupFailed if the file is not a backup of this kind of database."""
    try:
        with path.open("rb") as file:
            beginning = file.read(16)
    except OSError as error:
        raise BackupFailed(f"{path} cannot be read: {error.strerror}.") from None
    found = next((kind for start, kind in _BEGINNINGS.items() if beginning.startswith(start)), None)
    if found is None:
        raise BackupFailed(f"{path} is not a backup: it is neither a SQLite database nor an archive of pg_dump.")
    if found != vendor:
        raise BackupFailed(
            f"{path} is a backup of a {_NAMES[found]} database, and DATABASE_URL names a {_NAMES[vendor]} database."
        )
