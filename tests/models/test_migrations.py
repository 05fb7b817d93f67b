import re
import time
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder

from runsadmin import lenient_json
from runsadmin.models import CompressionState, Edit, MetadataPair, Run, SharedText, Thread
from runsadmin.services import backups, compression, connections, schema
from tests.models import version_0_1_0
from tests.models.conftest import INSTRUCTIONS, NOW, RELEASED
from tests.sandbox_client import make_run

type Rows = dict[str, dict[str, Any]]


@pytest.mark.django_db(transaction=True)
def test_database_of_an_older_version_is_refused() -> None:
    applied = MigrationRecorder.Migration.objects.filter(app="runsadmin")
    current = list(applied)
    applied.delete()
    MigrationRecorder(connection).record_applied("runsadmin", "0001_initial")
    try:
        with pytest.raises(CommandError, match=r"created by a version before 0\.1\.0.*set DATABASE_URL to a new"):
            call_command("migrate", verbosity=0)
    finally:
        applied.all().delete()
        applied.model.objects.bulk_create(current)
    assert "runsadmin_run" in connection.introspection.table_names()


def stored(runs: Rows) -> Rows:
    """The columns of all runs as they are read now."""
    names = next(iter(runs.values()))
    return {row.pop("upstream_id"): row for row in Run.objects.values("upstream_id", *names)}


def stored_bytes() -> list[bytes]:
    """What the database has in `raw`."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT raw FROM runsadmin_run ORDER BY id")
        return [raw.encode() if isinstance(raw, str) else bytes(raw) for (raw,) in cursor.fetchall()]


def compress_batches(count: int) -> None:
    stopping = Event()
    for _ in range(count):
        stopping.set()  # It stops after one batch.
        compression.compress_stored(until=time.monotonic() + 60, stopping=stopping)


def test_runs_of_version_0_1_0_are_migrated(older_database: Rows) -> None:
    call_command("migrate", verbosity=0)
    assert stored(older_database) == older_database
    assert list(Thread.objects.values_list("listed_from", flat=True)) == [NOW]
    pairs = MetadataPair.objects.select_related("run")
    assert all((pair.key, pair.created_at) == ("team", pair.run.created_at) for pair in pairs)
    assert pairs.count() == len(older_database)
    newest = Run.objects.order_by("-created_at", "-pk").values_list("created_at", flat=True)
    assert list(newest) == sorted((row["created_at"] for row in older_database.values()), reverse=True)

    compress_batches(1)
    assert CompressionState.objects.get().done < CompressionState.objects.get().last
    assert stored(older_database) == older_database
    Run.objects.filter(upstream_id="run_499").update(raw="{}")  # A row can be written before it is compressed.
    older_database["run_499"]["raw"] = "{}"
    compress_batches(3)
    assert not CompressionState.objects.exists()
    assert stored(older_database) == older_database
    assert not any(raw.startswith(b"{") for raw in stored_bytes())
    assert SharedText.objects.count() == 3
    assert max(map(len, stored_bytes())) < len(INSTRUCTIONS)


def test_every_row_of_version_0_1_0_is_kept(older_database: Rows) -> None:
    older = MigrationExecutor(connection).loader.project_state([RELEASED]).apps
    before = version_0_1_0.tables(older.get_models())
    assert all(before[f"runsadmin.{name}"] for name in ("BulkEdit", "Edit", "IdempotencyKey", "Sync", "Thread"))
    call_command("migrate", verbosity=0)
    after = version_0_1_0.tables(apps.get_models(), before)
    # `migrate` itself adds permissions, content types and groups.
    added = {label for label in before if label.startswith(("auth.Perm", "contenttypes.", "auth.Group"))}
    assert {label: rows for label, rows in after.items() if label not in added} == {
        label: rows for label, rows in before.items() if label not in added
    }
    assert schema.difference() == schema.Difference()


def test_migrated_runs_are_marked(older_database: Rows) -> None:
    call_command("migrate", verbosity=0)
    raw = lenient_json.dumps(make_run(id="run_1"))
    for number, text in enumerate(
        [raw, raw.replace('"usage":{', '"mirror":{'), raw.replace('"top_p":1.0', '"top_p":NaN')]
    ):
        Run.objects.filter(upstream_id=f"run_{number}").update(raw=text)
    assert not Run.objects.filter(in_api_format=True).exists()
    compress_batches(4)
    assert [run.upstream_id for run in Run.objects.filter(in_api_format=True)] == ["run_0"]


def test_interrupted_batch_is_repeated(older_database: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    call_command("migrate", verbosity=0)
    compress_batches(1)
    before = stored_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(CompressionState, "save", _crash)
        with pytest.raises(KeyboardInterrupt):
            compress_batches(1)
    assert stored_bytes() == before
    compress_batches(3)
    assert stored(older_database) == older_database
    assert not any(raw.startswith(b"{") for raw in stored_bytes())


def _crash(*_: object) -> None:
    raise KeyboardInterrupt


def test_upgrade_backs_up_sqlite(older_database: Rows, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "backups"
    call_command("upgrade", backups=folder)
    first = capsys.readouterr().out
    assert re.search(r"Applied \d+ migrations\.\n$", first)
    call_command("upgrade", backups=folder)
    assert capsys.readouterr().out == "There are no migrations to apply.\n"
    assert schema.difference() == schema.Difference()
    if connection.vendor != "sqlite":
        assert not folder.exists()
        return
    (backup,) = folder.iterdir()
    assert f"Backed up the database to {backup}" in first
    assert ("runsadmin", "0002_search_and_storage") in backups.read(backup).schema.unapplied


@pytest.mark.django_db
def test_interrupted_first_upgrade_needs_no_backup(tmp_path: Path) -> None:
    MigrationRecorder(connection).migration_qs.filter(app="runsadmin").delete()
    assert backups.before_migrating(tmp_path / "backups") is None


@pytest.mark.only_on("sqlite")
def test_upgrade_keeps_three_backups(older_database: Rows, tmp_path: Path) -> None:
    made = [backups.before_migrating(tmp_path / "backups") for _ in range(5)]
    assert sorted((tmp_path / "backups").iterdir()) == [backup.path for backup in made[2:] if backup]


def test_backup_of_version_0_1_0_is_restored(older_database: Rows, tmp_path: Path) -> None:
    backup = backups.create(tmp_path / "backup").path
    call_command("migrate", verbosity=0)
    assert backups.restore(backup).migrated
    assert stored(older_database) == older_database
    assert schema.difference() == schema.Difference()
    waiting = Edit.objects.filter(restored_from__isnull=False).order_by("pk")
    assert [edit.status for edit in waiting] == ["pending", "unknown", "unknown", "pending"]
    assert all(edit.base is not None and edit.claim_token is None for edit in waiting)
    assert connections.hold_reason("default", is_write=True)
