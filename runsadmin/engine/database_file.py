"""Notices that the file of SQLite was deleted or replaced: open connections would go on using the old one."""

from pathlib import Path

from django.db import connection


class DatabaseFile:
    """The file of this process's database, as it was at the start. With PostgreSQL, it is never replaced."""

    def __init__(self) -> None:
        self.name = str(connection.settings_dict["NAME"]) if connection.vendor == "sqlite" else ""
        self._identity = self._read()

    def was_replaced(self) -> bool:
        try:
            return self._identity is not None and self._read() != self._identity
        except OSError:  # For example, its folder cannot be read at the moment.
            return False

    def _read(self) -> tuple[int, int] | None:
        if not self.name:
            return None
        try:
            status = Path(self.name).stat()
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino
