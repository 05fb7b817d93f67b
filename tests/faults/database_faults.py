"""Faults of the database connection of this process."""

import resource
import sqlite3
import subprocess
from pathlib import Path

from django.db import connection

from tests.database import bytes_of


class DatabaseFault:
    """A fault that a test begins in the middle of an operation, and ends afterwards."""

    def begin(self) -> None:
        raise NotImplementedError

    def end(self) -> None:
        pass


class FullDisk(DatabaseFault):
    """SQLite cannot add a page, which raises the same error as a full disk."""

    def begin(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("VACUUM")  # Leaves no free page.
            cursor.execute("PRAGMA page_count")
            (pages,) = cursor.fetchone()
            cursor.execute(f"PRAGMA max_page_count={pages}")

    def end(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA max_page_count=1000000")


class FullDiskAtCommit(DatabaseFault):
    """All statements succeed, but SQLite cannot write what they changed to its log when the transaction commits."""

    def begin(self) -> None:
        self.limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            # The log grows to this size, which other files may still have.
            cursor.execute("CREATE TABLE filler AS SELECT zeroblob(1000000)")
            cursor.execute("DROP TABLE filler")
        size = Path(f"{connection.settings_dict['NAME']}-wal").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, self.limits[1]))

    def end(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self.limits)


class DamagedFile(DatabaseFault):
    """The first page of the edits in SQLite's file was overwritten."""

    def begin(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            cursor.execute("SELECT rootpage FROM sqlite_master WHERE name = 'runsadmin_edit'")
            (page,) = cursor.fetchone()
            cursor.execute("PRAGMA page_size")
            (self.size,) = cursor.fetchone()
        self.position = page - 1
        start = self.position * self.size
        self.page = bytes_of(Path(connection.settings_dict["NAME"]))[start : start + self.size]
        self._write(b"\xff" * self.size)

    def end(self) -> None:
        if self.page:
            self._write(self.page)
            self.page = b""  # A second call must not undo later changes.

    def _write(self, page: bytes) -> None:
        connection.close()  # SQLite caches pages.
        # Another process writes, since closing the file in this one would release SQLite's locks: see `bytes_of`.
        target = [f"of={connection.settings_dict['NAME']}", f"bs={self.size}", f"seek={self.position}"]
        subprocess.run(["dd", *target, "conv=notrunc", "status=none"], input=page, check=True)


class LockedFile(DatabaseFault):
    """Another process holds SQLite's write lock for longer than the busy timeout."""

    def begin(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA busy_timeout=100")
        self.other = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
        self.other.execute("BEGIN IMMEDIATE")

    def end(self) -> None:
        self.other.close()
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA busy_timeout=20000")


class CutConnection(DatabaseFault):
    """PostgreSQL ends the session, as it does when it restarts."""

    def begin(self) -> None:
        pid = connection.connection.info.backend_pid
        other = connection.copy()
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
        other.close()

    def end(self) -> None:
        connection.close()


class ReadOnly(DatabaseFault):
    """The database is read-only, like a file system after an error or a PostgreSQL standby server."""

    def begin(self) -> None:
        self._set("query_only=1", "default_transaction_read_only=on")

    def end(self) -> None:
        self._set("query_only=0", "default_transaction_read_only=off")

    def _set(self, pragma: str, setting: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA {pragma}" if connection.vendor == "sqlite" else f"SET {setting}")
