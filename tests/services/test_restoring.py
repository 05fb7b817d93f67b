"""After a restore, nothing is sent until users release it. Then nothing is sent twice, and newer values are kept."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import OperationalError, connection
from django.db.migrations.recorder import MigrationRecorder
from django.db.models.functions import Now
from pytest_django import Settings

from loadtests.environment import database_url
from runsadmin.errors import BackupFailed, DatabaseInUse, NotAllowed
from runsadmin.metadata import MetadataPatch
from runsadmin.models import BulkEdit, BulkEditStatus, ConnectionState, Edit, EditStatus, Sync, Worker
from runsadmin.services import backups, bulk_edits, connections, database_use, edits, syncs
from runsadmin.services.backups import holding, postgres
from runsadmin.services.permissions import Action
from tests.bulk import complete_plan, push_until_settled
from tests.conftest import EDITOR, Connect, MakeRun
from tests.sandbox_client import Sandbox
from tests.services import bulk_edit as bulk
from tests.services.single_edit import make_due, process_due, record
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)
GREEN = MetadataPatch({"team": "green"})


@pytest.fixture
def operator(make_user: Callable[..., User]) -> User:
    """May edit, and may release connections."""
    return make_user(*EDITOR, Action.HOLD, username="operator")


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    return tmp_path / "backup"


def database() -> Path:
    return Path(str(connection.settings_dict["NAME"]))


def refreshed(edit: Edit) -> Edit:
    return Edit.objects.get(pk=edit.pk)


def release_all(operator: User) -> int:
    return edits.release_all(connection="default", actor=operator)


def test_nothing_is_sent_after_a_restore(sandbox: Sandbox, alice: User, mirror_run: MakeRun, backup: Path) -> None:
    old = record(mirror_run(metadata={"team": "blue"}), alice)
    make_due(old)
    backups.create(backup)

    restored = backups.restore(backup)

    new = record(mirror_run(metadata={"team": "blue"}), alice)
    make_due(new)
    process_due()
    edits.push(old)
    edits.push(new)
    assert sandbox.posts() == []
    assert restored.waiting_edits == 1
    assert [refreshed(edit).status for edit in (old, new)] == [EditStatus.PENDING] * 2
    waits = edits.waits_of([refreshed(old), refreshed(new)])
    assert "a user to release it" in waits[old.pk].what
    assert "(it is held: a backup was restored)" in waits[new.pk].what
    syncs.run(syncs.start(connection="default", kind=Sync.Kind.FULL, actor=alice), until=float("inf"))
    assert sandbox.gets()  # Reading continues.


def test_released_edit_is_sent(
    sandbox: Sandbox, alice: User, operator: User, mirror_run: MakeRun, backup: Path
) -> None:
    first, second = (record(mirror_run(metadata={"team": "blue"}), alice) for _ in range(2))
    backups.create(backup)
    backups.restore(backup)
    with pytest.raises(NotAllowed):
        connections.release_restored("default", actor=alice)
    connections.release_restored("default", actor=operator)
    edits.release(edit=first, actor=alice)
    make_due(second)
    process_due()
    assert [refreshed(edit).status for edit in (first, second)] == [EditStatus.APPLIED, EditStatus.PENDING]
    assert release_all(operator) == 1
    process_due()
    assert refreshed(second).status == EditStatus.APPLIED


def test_newer_value_is_a_conflict(
    sandbox: Sandbox, alice: User, operator: User, mirror_run: MakeRun, backup: Path
) -> None:
    edit = record(mirror_run(metadata={"team": "blue"}), alice)
    backups.create(backup)
    sandbox.add_pairs(edit.run.upstream_id, {"team": "violet"})
    backups.restore(backup)
    syncs.run(syncs.start(connection="default", kind=Sync.Kind.FULL, actor=alice), until=float("inf"))
    release_all(operator)
    process_due()
    assert refreshed(edit).status == EditStatus.CONFLICT
    assert sandbox.posts() == []
    assert edits.conflicts(refreshed(edit))[0].theirs == "violet"


def test_edit_sent_after_the_backup_is_not_repeated(
    sandbox: Sandbox, alice: User, operator: User, mirror_run: MakeRun, backup: Path
) -> None:
    run = mirror_run(metadata={"team": "blue"})
    first, second = record(run, alice), record(run, alice, GREEN)
    backups.create(backup)
    assert edits.push(first).status == EditStatus.APPLIED
    backups.restore(backup)
    release_all(operator)
    process_due()
    process_due()
    # The second one expects the value of the first one.
    assert [refreshed(edit).status for edit in (first, second)] == [EditStatus.APPLIED] * 2
    assert [post["body"]["metadata"]["team"] for post in sandbox.posts()] == ["red", "green"]


@pytest.mark.parametrize("is_written", [True, False])
def test_unknown_edit_is_only_reconciled(
    is_written: bool,
    sandbox: Sandbox,
    settings: Settings,
    connect: Connect,
    alice: User,
    operator: User,
    mirror_run: MakeRun,
    backup: Path,
) -> None:
    settings.RUNSADMIN_SETTLING_TIME = 0.1
    connect(CONNECT_TIMEOUT=0.1, READ_TIMEOUT=0.2)
    edit = record(mirror_run(metadata={"team": "blue"}), alice)
    sandbox.fault("lose" if is_written else "cut_before", method="POST")
    assert edits.push(edit).status == EditStatus.UNKNOWN
    Edit.objects.filter(pk=edit.pk).update(sent_at=Now())
    backups.create(backup)
    backups.restore(backup)

    def is_reconciled() -> bool:
        make_due(edit)
        process_due()
        return refreshed(edit).status != EditStatus.UNKNOWN

    until(is_reconciled)
    process_due()
    now = refreshed(edit)
    assert len(sandbox.posts()) == 1
    assert now.status == (EditStatus.APPLIED if is_written else EditStatus.PENDING)
    assert now.awaits_release is not is_written
    if not is_written:
        sandbox.add_pairs(edit.run.upstream_id, {"team": "violet"})
        release_all(operator)
        process_due()
        assert refreshed(edit).status == EditStatus.CONFLICT


def test_bulk_edit_waits_to_be_resumed(
    sandbox: Sandbox, alice: User, operator: User, mirror_run: MakeRun, backup: Path
) -> None:
    runs = [mirror_run(metadata={"team": "blue"}) for _ in range(3)]
    plan = bulk.plan(alice)
    applied = bulk_edits.apply(bulk_edit=plan, actor=alice)
    planning = bulk_edits.plan(
        selection=bulk_edits.by_search("metadata.team:blue"), patch=bulk.RED, actor=alice, source=Edit.Source.API,
        reason="x", apply_when_planned=True,
    )  # fmt: skip
    backups.create(backup)
    edits.push(Edit.objects.get(bulk_edit=applied, run=runs[0]))
    sandbox.add_pairs(runs[1].upstream_id, {"team": "violet"})

    backups.restore(backup)
    connections.release_restored("default", actor=operator)
    process_due()
    complete_plan(BulkEdit.objects.get(pk=planning.pk))
    process_due()
    assert len(sandbox.posts()) == 1
    paused = BulkEdit.objects.get(pk=applied.pk)
    assert (paused.status, "was restored" in paused.detail) == (BulkEditStatus.PAUSED, True)
    assert BulkEdit.objects.get(pk=planning.pk).status == BulkEditStatus.PLANNED

    bulk_edits.resume(bulk_edit=paused, actor=operator)
    push_until_settled(paused)
    assert bulk.statuses(paused) == {"applied": 2, "conflict": 1}
    assert len(sandbox.posts()) == 2
    assert bulk.metadata(sandbox, runs) == [{"team": "red"}, {"team": "violet"}, {"team": "red"}]


def test_restored_edit_does_not_block_new_ones(
    sandbox: Sandbox, alice: User, operator: User, mirror_run: MakeRun, backup: Path
) -> None:
    run = mirror_run(metadata={"team": "blue"})
    old = record(run, alice)
    backups.create(backup)
    backups.restore(backup)
    connections.release_restored("default", actor=operator)
    new, later = (record(run, alice, MetadataPatch({"ticket": str(number)})) for number in range(2))
    assert edits.push(new).status == EditStatus.APPLIED
    make_due(later)
    process_due()
    assert refreshed(later).status == EditStatus.APPLIED
    assert edits.cancel(edit=old, actor=alice).status == EditStatus.CANCELLED


# --- When a restore is refused


def test_live_worker_prevents_a_restore(backup: Path) -> None:
    backups.create(backup)
    Worker.objects.create(pk="host-1-abcdefgh", seen_at=Now())
    with pytest.raises(DatabaseInUse, match="host-1-abcdefgh was alive"):
        backups.restore(backup)
    Worker.objects.all().delete()
    backups.restore(backup)


def test_open_database_prevents_a_restore(backup: Path) -> None:
    backups.create(backup)
    if connection.vendor == "sqlite":
        with closing(sqlite3.connect(database())) as other:
            other.execute("SELECT * FROM runsadmin_run")
            with pytest.raises(DatabaseInUse, match=r"has .* open"):
                backups.restore(backup)
    else:
        with psycopg.connect(**connection.get_connection_params(), application_name="watcher"):
            with pytest.raises(DatabaseInUse, match="watcher"):
                backups.restore(backup)
            backups.restore(backup, ignore_sessions=True)
    backups.restore(backup)


@pytest.mark.only_on("postgresql")
def test_restored_tables_have_statistics(backup: Path, mirror_run: MakeRun) -> None:
    mirror_run()
    backups.create(backup)
    backups.restore(backup)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stats WHERE tablename = 'runsadmin_run' AND attname = 'status'")
        assert cursor.fetchone() == (1,)


OPENING = """
import django
django.setup()
from django.db import connection
connection.cursor()
"""


def test_database_cannot_be_opened_meanwhile(backup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backups.create(backup)
    url = database_url()  # On SQLite, a restore prepares a new file, which the connection uses meanwhile.
    opened: list[subprocess.CompletedProcess[str]] = []

    def open_in_another_process(made_at: object) -> int:
        opened.append(run_python(OPENING, url=url))
        return 0

    monkeypatch.setattr(holding, "hold_everything", open_in_another_process)
    backups.restore(backup)
    (other,) = opened
    assert other.returncode != 0
    assert "being restored" in other.stderr


def test_backup_of_a_newer_version_is_refused(backup: Path) -> None:
    MigrationRecorder(connection).record_applied("runsadmin", "9999_later")
    backups.create(backup)
    MigrationRecorder(connection).record_unapplied("runsadmin", "9999_later")
    with pytest.raises(BackupFailed, match=r"runsadmin\.9999_later"):
        backups.restore(backup)


def test_failed_restore_changes_nothing(alice: User, backup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backups.create(backup)
    ConnectionState.objects.create(alias="after")

    def fail(*_: object) -> int:
        raise OperationalError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(holding, "hold_everything", fail)
        with pytest.raises(BackupFailed, match="nothing was changed: the disk is full"):
            backups.restore(backup)
    assert ConnectionState.objects.filter(alias="after").exists()
    if connection.vendor == "sqlite":
        connection.close()
        own = {path.name for path in database().parent.iterdir() if database().name in path.name}
        assert not [name for name in own if ".part" in name]


KILLED = """
import os, signal, sys
from pathlib import Path
import django
django.setup()
from runsadmin.services import backups
from runsadmin.services.backups import holding
holding.hold_everything = lambda made_at: os.kill(os.getpid(), signal.SIGKILL)
backups.restore(Path(sys.argv[1]))
"""


def run_python(script: str, *arguments: str, url: str) -> subprocess.CompletedProcess[str]:
    """Runs a script in another process, which uses this database."""
    environment = {**os.environ, "DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, check=False)


def is_open() -> bool:
    try:
        connection.ensure_connection()
    except OperationalError:
        return False
    return True


def test_killed_restore_changes_nothing(alice: User, backup: Path) -> None:
    backups.create(backup)
    ConnectionState.objects.create(alias="after")
    connection.close()
    if connection.vendor == "sqlite":  # This process no longer uses the database.
        os.close(database_use._files.pop(database()))
    assert run_python(KILLED, str(backup), url=database_url()).returncode == -signal.SIGKILL
    until(is_open)  # PostgreSQL takes a moment to notice that its client was killed.
    assert ConnectionState.objects.filter(alias="after").exists()
    assert not connections.is_held("default")
    backups.restore(backup)
    assert connections.is_held("default")
    if connection.vendor == "sqlite":
        assert not [*database().parent.glob(f".{database().name}.*")]


@pytest.mark.only_on("postgresql")
@pytest.mark.parametrize("missing", ["all", "some"])
def test_lost_tables_are_replaced(missing: str, alice: User, backup: Path) -> None:
    backups.create(backup)
    with connection.cursor() as cursor:
        if missing == "all":
            postgres._drop_tables()
        else:
            cursor.execute("DROP TABLE runsadmin_edit, django_migrations CASCADE")
            cursor.execute("CREATE TABLE runsadmin_later (id int)")
    backups.restore(backup)
    assert User.objects.get().username == "alice"
    assert "runsadmin_later" not in connection.introspection.table_names()
    assert not Edit.objects.exists()


@pytest.mark.only_on("sqlite")
@pytest.mark.parametrize("state", ["missing", "broken"])
def test_lost_database_is_replaced(state: str, alice: User, backup: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Fails before the database is deleted if the restore could not replace it: all later tests need it.
    with database_use.exclusive():
        pass
    backups.create(backup)
    connection.close()
    for path in database_use.sqlite_files(database()):
        path.unlink(missing_ok=True)
    if state == "broken":
        database().write_bytes(b"SQLite format 3\0" + b"broken" * 5000)
    call_command("restore", backup)
    assert User.objects.get().username == "alice"
    output = capsys.readouterr().out
    assert "Nothing is sent" in output
    kept = [*database().parent.glob(f"{database().name}.replaced-*")]
    assert sum(f"The replaced database is {path}." in output for path in kept) == (state == "broken")
