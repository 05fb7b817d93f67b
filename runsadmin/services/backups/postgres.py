"""Backups of PostgreSQL: archives of pg_dump, which is also used to check them. Neither stops other sessions."""

import datetime as dt
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
from django.contrib.contenttypes.models import ContentType
from django.db import DatabaseError, connection, transaction

from runsadmin.errors import BackupFailed, DatabaseInUse
from runsadmin.models import Worker
from runsadmin.services.backups.contents import Contents

# The time in an archive has no zone: write and read it in UTC.
_ENVIRONMENT = {"TZ": "UTC", "LC_ALL": "C"}
_CREATED = re.compile(r"^;\s*Archive created at (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)", re.MULTILINE)
_COPY = re.compile(rb"COPY \S+ \(.*\) FROM stdin;\n")
# The first two are meant for psql. Servers before 17 do not know the third, but newer programs write it for them too.
_SKIPPED = (b"\\restrict ", b"\\unrestrict ", b"SET transaction_timeout ")
_END_OF_ROWS = b"\\.\n"


def dump(target: Path) -> None:
    """Dumps the tables into an existing file. The dump is of a single moment."""
    _check_version()
    parameters = connection.get_connection_params()
    known = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()}
    # The password is in the environment of the process, since everyone can see its arguments.
    where = {key: value for key, value in parameters.items() if key in known and key != "password"}
    _run(
        "pg_dump",
        "--format=custom", "--no-owner", "--no-privileges", f"--schema={_schema()}", f"--file={target}",
        f"--dbname={psycopg.conninfo.make_conninfo(**where)}",
        PGPASSWORD=str(parameters.get("password") or ""),
    )  # fmt: skip


def read(path: Path) -> Contents:
    """Decodes the whole archive. Raises BackupFailed."""
    _run("pg_restore", f"--file={os.devnull}", str(path))
    header = _run("pg_restore", "--list", str(path))
    created = _CREATED.search(header)
    if created is None:
        raise BackupFailed("pg_restore did not say when the archive was made.")
    rows = _run("pg_restore", "--data-only", "--table=django_migrations", "--file=-", str(path))
    made_at = dt.datetime.fromisoformat(created[1]).replace(tzinfo=dt.UTC)
    return Contents.of(made_at, _migrations(rows.splitlines()))


def _migrations(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    columns: list[str] = []
    for line in lines:
        if line.startswith("COPY "):
            columns = [name.strip() for name in line[line.index("(") + 1 : line.index(")")].split(",")]
        elif line == "\\.":
            return
        elif columns:
            row = dict(zip(columns, line.split("\t"), strict=True))
            yield row["app"], row["name"]


# --- Restoring


@contextmanager
def loaded(path: Path) -> Iterator[Path | None]:
    """Replaces all tables with those of a backup. The block prepares these, in the same transaction."""
    try:
        with transaction.atomic(durable=True):
            # Otherwise, a migration could not alter a table whose rows another one has just changed.
            connection.cursor().execute("SET CONSTRAINTS ALL IMMEDIATE")
            _drop_tables()
            _load(path)
            ContentType.objects.clear_cache()
            yield None
    except DatabaseError as error:
        raise BackupFailed(f"PostgreSQL failed, and nothing was changed: {error}") from error
    finally:
        ContentType.objects.clear_cache()
    with suppress(DatabaseError), connection.cursor() as cursor:
        cursor.execute("ANALYZE")  # Otherwise, the first searches would be planned without statistics.


def worker_seen(since: dt.datetime) -> str:
    """The id of a worker that was alive after this time. Empty if there is none, or if there are no tables."""
    if Worker._meta.db_table not in connection.introspection.table_names():
        return ""
    return Worker.objects.filter(seen_at__gt=since).values_list("pk", flat=True).first() or ""


def check_other_sessions() -> None:
    """Raises DatabaseInUse if other sessions are connected to the database, whatever their program."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT usename, application_name, client_addr FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        sessions = [" ".join(str(part) for part in session if part) for session in cursor.fetchall()]
    if sessions:
        raise DatabaseInUse(
            f"Other sessions are connected to the database ({'; '.join(sorted(set(sessions)))}). End them, then try "
            "again. If they belong to programs that only monitor the server, use --ignore-sessions."
        )


def _drop_tables() -> None:
    with connection.cursor() as cursor:
        # All other objects belong to tables and are dropped with them, apart from extensions, which stay.
        cursor.execute(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname = current_schema()"
        )
        if tables := [name for (name,) in cursor.fetchall()]:
            cursor.execute(f"DROP TABLE {', '.join(tables)} CASCADE")


def _load(path: Path) -> None:
    arguments = ["--no-owner", "--no-privileges", f"--schema={_schema()}", "--file=-", str(path)]
    with subprocess.Popen([_program("pg_restore"), *arguments], stdout=subprocess.PIPE, env=_environment()) as script:
        assert script.stdout is not None
        with connection.wrap_database_errors:
            _execute(script.stdout)
    if script.returncode:
        raise BackupFailed("pg_restore failed, and nothing was changed.")
    with connection.cursor() as cursor:
        cursor.execute("RESET search_path")


def _execute(script: Iterable[bytes]) -> None:
    """Executes a script of pg_restore: statements, and rows for COPY."""
    lines = iter(script)
    session: Any = connection.connection
    statements: list[bytes] = []
    for line in lines:
        if line.startswith(_SKIPPED):
            continue
        if not _COPY.fullmatch(line):
            statements.append(line)
            continue
        session.execute(b"".join(statements))
        statements.clear()
        with session.cursor().copy(line) as rows:
            for row in iter(lambda: next(lines, _END_OF_ROWS), _END_OF_ROWS):
                rows.write(row)
    session.execute(b"".join(statements))


def _schema() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_schema()")
        return str(cursor.fetchone()[0])


# --- The programs


def _check_version() -> None:
    """pg_dump refuses a server that is newer than itself. Raises BackupFailed."""
    server = _server_version()
    found = re.search(r"\) (\d+)", _run("pg_dump", "--version"))
    if found and int(found[1]) < server:
        raise BackupFailed(
            f"pg_dump has version {found[1]}, and the server {server}: a backup needs pg_dump {server} or newer. "
            f"{_install(server)}"
        )


def _server_version() -> int:
    connection.ensure_connection()
    version: int = connection.connection.info.server_version
    return version // 10000


def _install(version: int) -> str:
    return f"Install the client programs of PostgreSQL {version} (Debian: apt-get install postgresql-client)."


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise BackupFailed(f"The program {name} was not found. {_install(_server_version())}")
    return found


def _environment(**more: str) -> dict[str, str]:
    return {**os.environ, **_ENVIRONMENT, **{name: value for name, value in more.items() if value}}


def _run(name: str, *arguments: str, **environment: str) -> str:
    """Returns what the program prints. Raises BackupFailed with its error."""
    result = subprocess.run(
        [_program(name), *arguments], env=_environment(**environment), capture_output=True, text=True, check=False
    )
    if result.returncode:
        lines = result.stderr.strip().splitlines() or [f"exit code {result.returncode}"]
        newer = " Install newer client programs of PostgreSQL." if "unsupported version" in lines[0] else ""
        raise BackupFailed(f"{name} failed: {lines[0].removeprefix(f'{name}: ')}.{newer}")
    return result.stdout
