"""The databases that are measured: filled ones, which are kept for later calls, and empty ones for the alternatives."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import push
from tests.postgres import server

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("SQLite", "PostgreSQL")


@dataclass(frozen=True)
class Databases:
    """Databases of one kind, in a folder on this disk."""

    name: str
    folder: Path

    @contextmanager
    def empty(self) -> Iterator[str]:
        """The URL of a database without tables."""
        if self.name == "PostgreSQL":
            with server(durable=True) as url:
                yield url
        else:
            with tempfile.TemporaryDirectory(dir=self.folder.resolve(), prefix="empty-") as folder:
                yield f"sqlite:///{folder}/db.sqlite3"

    @contextmanager
    def filled(self, runs: int, *, again: bool = False) -> Iterator[tuple[str, dict[str, Any]]]:
        """The URL of a database with this many runs, and what was measured when it was filled.

        An earlier database is reused, unless `again` is set or the generator or the migrations have changed.
        """
        base = f"{self.name.lower()}-{runs}-"
        path = self.folder.resolve() / (base + _version())
        measured = path.with_suffix(".json")
        if again or not measured.exists():
            for old in path.parent.glob(base + "*"):
                shutil.rmtree(old) if old.is_dir() else old.unlink()
            with self._running(path) as url:
                measured.write_text(json.dumps(in_process(url, "fill.load", "runsadmin", str(runs), str(runs))))
        with self._running(path) as url:
            yield url, json.loads(measured.read_text())

    @contextmanager
    def _running(self, path: Path) -> Iterator[str]:
        if self.name == "PostgreSQL":
            with server(durable=True, data=path) as url:
                yield url
        else:
            yield f"sqlite:///{path}"


def _version() -> str:
    """A hash of the generator and of the migrations."""
    files = [ROOT / "bench" / "data.py", *sorted((ROOT / "runsadmin" / "migrations").glob("*.py"))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def in_process(url: str, function: str, *arguments: str, settings: str = "project.settings") -> Any:
    """Calls a function of this package in a new process, since Django can be set up for only one database."""
    output = subprocess.run(
        [sys.executable, "-m", "bench.in_django", function, *arguments],
        cwd=ROOT, env=environment(url, settings), stdout=subprocess.PIPE, text=True, check=True,
    ).stdout  # fmt: skip
    return json.loads(output)


def environment(url: str, settings: str = "project.settings") -> dict[str, str]:
    """The default settings, with a limit of REST requests that no benchmark reaches."""
    own = {
        "DJANGO_SETTINGS_MODULE": settings,
        "LOG_LEVEL": "WARNING",
        "RUNSADMIN_API_REQUESTS_PER_MINUTE": "6000000",
    }
    return os.environ | push.environment(url) | own


# --- Inside of a process that is set up for a database


def sizes() -> dict[str, int]:
    """The bytes of every table and index of the runs, and of the whole database."""
    from django.db import connection

    from runsadmin import models

    tables = [
        table for table in connection.introspection.table_names()
        if table.startswith(f"{models.Run._meta.app_label}_")
    ]  # fmt: skip
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "SELECT t.relname, pg_table_size(t.oid) FROM pg_class t WHERE t.relname = ANY(%s)"
                " UNION ALL SELECT i.indexrelid::regclass::text, pg_relation_size(i.indexrelid)"
                " FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid WHERE t.relname = ANY(%s)",
                [tables, tables],
            )
            relations = dict(cursor.fetchall())
            cursor.execute("SELECT pg_database_size(current_database())")
        else:
            places = ", ".join(["%s"] * len(tables))
            cursor.execute(
                "SELECT s.name, sum(s.pgsize) FROM dbstat s JOIN sqlite_master m ON m.name = s.name"
                f" WHERE m.tbl_name IN ({places}) GROUP BY s.name",
                tables,
            )
            relations = dict(cursor.fetchall())
            cursor.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
        whole = cursor.fetchone()[0]
    largest_first = sorted(relations.items(), key=lambda item: -item[1])
    return {"whole database": whole} | {name: size for name, size in largest_first if size > 64 * 1024}
