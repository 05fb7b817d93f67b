"""Backups are made while other processes write, checked before they are reported, and readable only by their owner."""

import os
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from runsadmin import private_files
from runsadmin.errors import BackupFailed
from runsadmin.models import ConnectionState
from runsadmin.services import backups
from runsadmin.services.backups import postgres, sqlite
from runsadmin.services.database_use import lock_file_of, sqlite_files

pytestmark = pytest.mark.django_db(transaction=True)
IS_SQLITE = connection.vendor == "sqlite"
only_sqlite = pytest.mark.only_on("sqlite")
only_postgres = pytest.mark.only_on("postgresql")


@contextmanager
def writing() -> Iterator[None]:
    """Another session changes two rows in each of its transactions, without a pause."""
    ConnectionState.objects.bulk_create(ConnectionState(alias=alias) for alias in "ab")
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            with transaction.atomic():
                for alias in "ab":
                    ConnectionState.objects.filter(alias=alias).update(hold_detail=str(number))
        connection.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        stop.set()
        writer.join()


def details(backup: Path) -> list[str]:
    """The values that the writer wrote, as the backup has them."""
    if IS_SQLITE:
        with closing(sqlite3.connect(backup)) as file:
            return [detail for (detail,) in file.execute("SELECT hold_detail FROM runsadmin_connectionstate")]
    rows = subprocess.run(
        ["pg_restore", "--data-only", "--table=runsadmin_connectionstate", "--file=-", backup],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [line.split("\t")[2] for line in rows.stdout.splitlines() if line[:2] in ("a\t", "b\t")]


def test_backup_is_of_one_moment(tmp_path: Path) -> None:
    with writing():
        made = [backups.create(tmp_path / f"backup-{number}") for number in range(5)]
    found = [details(backup.path) for backup in made]
    assert all(len(pair) == 2 and pair[0] == pair[1] for pair in found)
    assert len(set(map(tuple, found))) == 5  # The writer went on while backups were made.
    assert [backups.read(backup.path).schema.message for backup in made] == [""] * 5


def test_backup_is_private(tmp_path: Path) -> None:
    old_umask = os.umask(0)
    try:
        call_command("backup", tmp_path / "backup", verbosity=0)
    finally:
        os.umask(old_umask)
    assert [(path.name, path.stat().st_mode & 0o777) for path in tmp_path.iterdir()] == [("backup", 0o600)]


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackupFailed, match=f"{tmp_path}/none: The folder does not exist."):
        backups.create(tmp_path / "none" / "backup")


def test_existing_file_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "backup"
    file.write_text("mine")
    with pytest.raises(CommandError, match="exists already"):
        call_command("backup", file)
    assert ([*tmp_path.iterdir()], file.read_text()) == ([file], "mine")
    call_command("backup", file, overwrite=True, verbosity=0)
    assert backups.read(file).schema.message == ""


def test_backup_never_replaces_a_device(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(BackupFailed, match="not a regular file"):
        backups.create(pipe, overwrite=True)
    assert [*tmp_path.iterdir()] == [pipe]
    assert pipe.is_fifo()


def test_failed_check_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = sqlite3.DatabaseError("damaged") if IS_SQLITE else BackupFailed("damaged")

    def damage(path: Path) -> None:
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size // 2)
        raise error

    monkeypatch.setattr(sqlite if IS_SQLITE else postgres, "read", damage)
    with pytest.raises(type(error), match="damaged"):
        backups.create(tmp_path / "backup", overwrite=True)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("damage", ["cut", "changed", "other"])
def test_damaged_backup_is_noticed(damage: str, tmp_path: Path) -> None:
    file = backups.create(tmp_path / "backup").path
    content = bytearray(file.read_bytes())
    match damage:
        case "cut":
            content = content[: len(content) * 2 // 3]
        case "changed":  # The middle of the file: pages of tables, or compressed rows.
            half = len(content) // 2
            content[half : half + 20_000] = os.urandom(20_000)
        case _:
            content = bytearray(b"PGDMP" if IS_SQLITE else b"SQLite format 3\0") + content
    file.write_bytes(content)
    with pytest.raises(BackupFailed):
        backups.read(file)


def test_file_system_without_links_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no hard links")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    file = backups.create(tmp_path / "backup").path
    with pytest.raises(BackupFailed, match="exists already"):
        backups.create(file)
    assert [*tmp_path.iterdir()] == [file]
    backups.restore(file)


@only_sqlite
def test_database_file_is_private() -> None:
    database = Path(str(connection.settings_dict["NAME"]))
    ConnectionState.objects.create(alias="a")
    other = sqlite3.connect(database)  # Keeps the write-ahead log.
    other.execute("SELECT * FROM runsadmin_connectionstate")
    connection.close()
    files = [path for path in sqlite_files(database) if path.exists()]
    for path in files:
        path.chmod(0o644)
    ConnectionState.objects.create(alias="b")
    other.close()
    assert len(files) == 3
    assert {path.stat().st_mode & 0o777 for path in [*files, lock_file_of(database)]} == {0o600}


def test_env_file_is_unreadable_for_others(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("SECRET_KEY=x")
    file.chmod(0o664)
    private_files.protect(file, Path(os.devnull), group_may_read=True)
    assert file.stat().st_mode & 0o777 == 0o660
    assert Path(os.devnull).stat().st_mode & 0o777 == 0o666


@only_postgres
def test_missing_pg_dump_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CommandError, match=r"pg_dump was not found.*apt-get install postgresql-client"):
        call_command("backup", tmp_path / "backup")
    assert [*tmp_path.iterdir()] == []


@only_postgres
def test_archive_of_a_newer_pg_dump_is_explained(tmp_path: Path) -> None:
    file = backups.create(tmp_path / "backup").path
    content = bytearray(file.read_bytes())
    content[6] = 99  # The minor version of the format.
    file.write_bytes(content)
    with pytest.raises(BackupFailed, match=r"unsupported version \(1\.99\).*Install newer client programs"):
        backups.read(file)


@only_postgres
def test_password_is_not_an_argument(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "pg_dump"
    program.write_text('#!/bin/sh\necho "pg_dump (PostgreSQL) 99.1"\necho "$@" >>"$0.log"\necho "$PGPASSWORD" >&2\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setitem(connection.settings_dict, "PASSWORD", "hunter2")
    with pytest.raises(BackupFailed):  # The program writes nothing.
        backups.create(tmp_path / "backup")
    arguments = (tmp_path / "pg_dump.log").read_text()
    assert "--format=custom" in arguments
    assert "hunter2" not in arguments


@only_postgres
def test_older_pg_dump_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "pg_dump"
    program.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6.1'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(BackupFailed, match=r"pg_dump has version 9, and the server \d\d: a backup needs pg_dump \d\d"):
        backups.create(tmp_path / "backup")


assert shutil.which("pg_dump") or IS_SQLITE, "These tests need pg_dump (Debian: apt-get install postgresql-client)."
