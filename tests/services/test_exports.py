"""Exports: their formats, their manifest, and the files that workers write."""

import csv
import datetime as dt
import io
import os
import threading
from pathlib import Path
from typing import Any

import duckdb
import pytest
from django.contrib.auth.models import User
from django.db import OperationalError
from django.utils import timezone
from pytest_django import Settings

from runsadmin.errors import FormatUnavailable, InvalidColumns, InvalidTransition, NotAllowed
from runsadmin.models import Edit, Export, ExportFormat, ExportStatus, MetadataPair, Run, Sync, SyncError, Thread
from runsadmin.services import clock, exports, purging, run_columns, runs
from runsadmin.services.exports import Dump, NewExport, formats, reading
from runsadmin.services.gateway import TimedResponse
from runsadmin.services.run_search import RunSearch
from runsadmin.upstream.records import Response, RunRecord
from tests.archive import ALIAS, add_archive, import_lines
from tests.conftest import Connect
from tests.sandbox_client import Json, make_run

pytestmark = pytest.mark.django_db(transaction=True)

HOSTILE = ["=1+1", "@SUM(A1)", "-2+3", "+A1", "\t=1", "x;\n=1", "'=1", 'a,"b"', "", "\ud800\0"]


def mirror(*responses: Json, thread_id: str = "thread_a") -> None:
    """Mirrors runs that a server returned like this."""
    thread, _ = Thread.objects.get_or_create(connection="default", upstream_id=thread_id)
    now = clock.now()
    records = [RunRecord.read(response, thread_id) for response in responses]
    runs.compare([(thread, TimedResponse(Response(each, 200, "", 0.0), now, now)) for each in records]).write()


def dump(chosen: ExportFormat, columns: str | None = None, query: str = "") -> bytes:
    parsed = None if columns is None else run_columns.parse(columns)
    return b"".join(Dump(RunSearch.parse(query), chosen, parsed))


def rows_of(sql: str) -> list[Any]:
    found = duckdb.sql(sql)
    assert found is not None
    return found.fetchall()


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "FIRST", 1)
    monkeypatch.setattr(reading, "CHUNK", 2)
    monkeypatch.setattr(formats._Parquet, "ROW_GROUP", 3)


@pytest.fixture
def folder(settings: Settings, tmp_path: Path) -> Path:
    settings.RUNSADMIN_EXPORT_FOLDER = str(tmp_path / "exports")
    return tmp_path / "exports"


# --- Formats


@pytest.mark.parametrize("query", ["", "metadata.n:*", "metadata.n:* -metadata.n:3", "status:completed OR model:x"])
def test_all_chunks_are_exported(small_chunks: None, query: str) -> None:
    mirror(*(make_run(thread_id="thread_a", metadata={"n": str(n)}) for n in range(8)))
    expected = list(Run.objects.order_by("-created_at", "-pk").values_list("upstream_id", flat=True))
    if "-" in query:
        expected.remove(MetadataPair.objects.get(value="3").run.upstream_id)
    rows = list(csv.reader(io.StringIO(dump(ExportFormat.CSV, "id", query).decode(), newline="")))
    assert [id for (id,) in rows] == ["id", *expected]


def test_csv_cells_are_safe_and_complete() -> None:
    metadata: dict[str, Any] = {f"k{n}": value for n, value in enumerate(HOSTILE)}
    run = make_run(id="run_a", thread_id="thread_a", model="=1+1", metadata=metadata, last_error=None, failed_at=None)
    mirror(run)
    keys = ",".join(f"metadata.{key}" for key in [*metadata, "none"])
    header, line, end = dump(ExportFormat.CSV, f"id,model,error,duration,tokens,created,{keys}").decode().split("\r\n")
    assert (header.startswith('"id","model","error"'), end) == (True, "")
    assert line.startswith('"run_a","\'=1+1",,8,150,"2')  # Numbers need no quotes, and an absent value is empty.
    assert line.endswith('"","\\ud800\\u0000",')  # Empty text has quotes.
    cells = next(csv.reader(io.StringIO(line, newline="")))[6:-1]
    assert cells[:5] == ["'=1+1", "'@SUM(A1)", "'-2+3", "'+A1", "'\t'=1"]
    assert not [cell for cell in cells if cell.lstrip("\t\n ").startswith(("=", "+", "-", "@"))]


def test_single_column_may_be_empty() -> None:
    mirror(make_run(thread_id="thread_a"))
    assert dump(ExportFormat.CSV, "metadata.x") == b'"metadata.x"\r\n\r\n'


def test_parquet_has_typed_columns(small_chunks: None, tmp_path: Path) -> None:
    created = 1769850000
    mirror(
        *(make_run(id=f"run_{n}", created_at=created + n, metadata={"n": str(n)}) for n in range(7)),
        make_run(id="run_7", created_at=created + 7, usage=None, metadata={"n": 1, "x": "\ud800"}),
        thread_id=make_run()["thread_id"],
    )
    (tmp_path / "runs.parquet").write_bytes(dump(ExportFormat.PARQUET, "all,metadata.n"))
    file = f"'{tmp_path / 'runs.parquet'}'"
    types = {name: kind for name, kind, *_ in rows_of(f"DESCRIBE SELECT * FROM {file}")}
    assert {types[name] for name in ("created", "started", "missing")} == {"TIMESTAMP WITH TIME ZONE"}
    assert {types[name] for name in ("tokens", "prompt_tokens")} == {"BIGINT"}
    assert (types["id"], types["duration"], types["metadata"]) == ("VARCHAR", "DOUBLE", "MAP(VARCHAR, VARCHAR)")
    rows = rows_of(f"""SELECT id, epoch(created), tokens, duration, metadata['n'], "metadata.n" FROM {file}""")
    assert rows[1:] == [(f"run_{n}", created + n, 150, 8.0, str(n), str(n)) for n in reversed(range(7))]
    assert rows[0] == ("run_7", created + 7, None, 8.0, "1", "1")
    assert rows_of(f"SELECT sum(tokens), max(metadata['x']) FROM {file}") == [(7 * 150, "\\ud800")]


ODD = [
    make_run(id="run_plain"),
    make_run(id="run_unknown_fields", instructions="é\u2028", reasoning={"effort": [1, 2.50, None]}),
    make_run(id="run_no_thread", thread_id=None),
    make_run(id="run_times", created_at="2026-01-31T09:00:00Z", started_at=0),
    make_run(id="run_surrogate", metadata={"a": "\ud800", "b": "\0", "c": 1, "": "x"}),
    make_run(id="run_named_like_us", mirror={"x": 1}),
    {name: value for name, value in make_run(id="run_without_metadata").items() if name != "metadata"},
    make_run(id="run_metadata_is_text", metadata="x"),
    {"id": "run_short", "status": "completed", "created_at": 1769850000},
]


def test_json_lines_are_imported_without_loss(connect: Connect) -> None:
    mirror(*({**run, "thread_id": run.get("thread_id") and "thread_a"} for run in ODD))
    Run.objects.filter(upstream_id="run_plain").update(metadata_state="unreadable")
    add_archive(connect)
    assert import_lines(dump(ExportFormat.JSONL)).created == len(ODD)

    def stored(alias: str) -> dict[str, Any]:
        columns = [field.attname for field in Run._meta.concrete_fields]
        own = {"id", "connection", "thread_id", "requested_at", "received_at", "raw", "shared_text_id"}
        rows = Run.objects.filter(connection=alias).select_related("thread")
        kept = [name for name in columns if name not in own]
        return {
            run.upstream_id: (run.thread.upstream_id, run.raw, [getattr(run, name) for name in kept]) for run in rows
        }

    def pairs(alias: str) -> set[Any]:
        return set(MetadataPair.objects.filter(run__connection=alias).values_list("run__upstream_id", "key", "value"))

    assert stored(ALIAS) == stored("default")
    assert pairs(ALIAS) == pairs("default") != set()


def test_lines_of_usual_runs_are_unchanged() -> None:
    run = make_run(thread_id="thread_a")
    mirror(run)
    assert RunRecord(run, run["id"]).raw.encode() + b"\n" == dump(ExportFormat.JSONL)


def test_json_lines_have_no_columns() -> None:
    with pytest.raises(InvalidColumns, match="whole runs"):
        dump(ExportFormat.JSONL, "id")


def test_parquet_without_its_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    with pytest.raises(FormatUnavailable, match="pip install pyarrow"):
        dump(ExportFormat.PARQUET)


# --- The manifest


def test_manifest_says_what_may_be_missing(connect: Connect, alice: User) -> None:
    mirror(*(make_run(id=f"run_{n}", thread_id="thread_a") for n in range(4)))
    add_archive(connect)
    now = timezone.now()
    Run.objects.filter(upstream_id="run_0").update(missing_since=now)
    Run.objects.filter(upstream_id="run_1").update(metadata_state="not_shown")
    Run.objects.filter(upstream_id="run_2").update(needs_refresh_since=now)
    Thread.objects.update(fully_checked_at=now)
    Thread.objects.create(connection="default", upstream_id="new")
    Thread.objects.create(connection="default", upstream_id="untracked", tracked=False)
    Thread.objects.create(connection=ALIAS, upstream_id="archived", tracked=False)
    for kind, errors in (("full", ["thread_a", "new"]), ("incremental", ["thread_a"])):
        sync = Sync.objects.create(connection="default", kind=kind, status=Sync.Status.COMPLETED)
        for name in errors:
            SyncError.objects.create(sync=sync, thread=Thread.objects.get(upstream_id=name), message="No.")

    export = Dump(RunSearch.parse("status:completed"), ExportFormat.CSV, run_columns.parse("id,metadata.team"))
    list(export)
    manifest = export.manifest()
    assert (manifest["search"], manifest["columns"], manifest["runs"]) == (
        "status:completed",
        ["id", "metadata.team"],
        4,
    )
    assert manifest["began_at"] <= manifest["finished_at"]
    assert manifest["incomplete"] == {
        "runs_missing_upstream": 1,
        "runs_with_unknown_metadata": 1,
        "runs_waiting_for_refresh": 1,
        "threads_never_read_fully": {"count": 1, "first": [{"connection": "default", "thread": "new"}]},
        "threads_with_sync_errors": {"count": 1, "first": [{"connection": "default", "thread": "thread_a"}]},
    }


# --- Files


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def request(actor: User, query: str = "", chosen: ExportFormat = ExportFormat.CSV, **more: Any) -> Export:
    return exports.request(
        NewExport(actor=actor, source=Edit.Source.ADMIN, format=chosen, search=RunSearch.parse(query), **more)
    )


@pytest.fixture
def export(folder: Path, carol: User) -> Export:
    mirror(*(make_run(thread_id="thread_a") for _ in range(5)))
    return request(carol, columns=run_columns.parse("id"))


def test_file_has_the_runs_of_the_request(folder: Path, carol: User) -> None:
    mirror(*(make_run(id=f"run_{n}", thread_id="thread_a") for n in range(3)))
    keys = [Run.objects.get(upstream_id=f"run_{n}").pk for n in (0, 2)]
    export = exports.write(request(carol, keys=keys, columns=run_columns.parse("id")))
    with exports.open_file(export=export, actor=carol) as file:
        assert file.read() == b'"id"\r\n"run_2"\r\n"run_0"\r\n'
    assert (export.manifest or {})["search"] is None
    assert names(folder) == [export.file]


def test_relative_times_count_from_the_request(folder: Path, carol: User) -> None:
    now = int(timezone.now().timestamp())
    mirror(make_run(id="run_a", thread_id="thread_a", created_at=now - 3600 + 60))
    export = request(carol, "created:>-1h")
    Export.objects.update(created_at=timezone.now() + dt.timedelta(minutes=5))
    assert exports.write(export).rows == 0


def test_dead_worker_is_replaced(export: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "FIRST", 1)
    for attempt in range(1, 4):
        assert exports.claim_waiting() == [export.pk]
        with monkeypatch.context() as dying, pytest.raises(KeyboardInterrupt):
            dying.setattr(formats._CSV, "add", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            exports.write(export)
        Export.objects.update(claimed_until=clock.now() - dt.timedelta(seconds=1))
        assert Export.objects.get().attempts == attempt
    failed = exports.write(export)
    assert (failed.status, failed.detail) == (ExportStatus.FAILED, "3 workers died while they wrote its file.")
    assert exports.claim_waiting() == []


def test_claimed_export_is_left_alone(export: Export) -> None:
    Export.objects.update(claim_token="0" * 32, claimed_until=clock.now() + dt.timedelta(minutes=1))
    assert exports.write(export).status == ExportStatus.QUEUED
    assert exports.claim_waiting() == []


def test_stopping_worker_releases_the_export(export: Export) -> None:
    stopping = threading.Event()
    stopping.set()
    stopped = exports.write(export, stopping=stopping)
    assert (stopped.status, stopped.attempts, stopped.claim_token) == (ExportStatus.RUNNING, 0, None)
    assert exports.claim_waiting() == [export.pk]
    assert exports.write(export).status == ExportStatus.COMPLETED


def test_database_failure_is_retried(export: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> bytes:
        raise OperationalError("gone")

    with monkeypatch.context() as broken, pytest.raises(OperationalError):
        broken.setattr(formats._CSV, "add", failing)
        exports.write(export)
    assert exports.write(export).status == ExportStatus.COMPLETED


def test_full_disk_is_reported(export: Export, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(formats._CSV, "add", failing)
    failed = exports.write(export)
    assert (failed.status, names(folder)) == (ExportStatus.FAILED, [])
    assert "No space left" in failed.detail


def test_cancelled_export_has_no_file(
    export: Export, folder: Path, carol: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runsadmin.services.exports.files.RENEW_EVERY", 0.0)
    add = formats._CSV.add

    def cancelled(writer: Any, runs: Any) -> bytes:
        if Export.objects.get().status == ExportStatus.RUNNING:
            exports.cancel(export=export, actor=carol)
        return add(writer, runs)

    monkeypatch.setattr(formats._CSV, "add", cancelled)
    written = exports.write(export)
    assert (written.status, written.detail) == (ExportStatus.CANCELLED, "carol cancelled it.")
    assert names(folder) == []


def test_files_expire(export: Export, folder: Path, carol: User) -> None:
    name = exports.write(export).file
    left = folder / f"{name}.part"
    left.write_text("by a dead worker")
    exports.delete_expired()
    assert len(names(folder)) == 2
    os.utime(left, (0, 0))
    Export.objects.update(expires_at=clock.now() - dt.timedelta(seconds=1))
    assert exports.delete_expired() == 1
    assert (Export.objects.get().status, names(folder)) == (ExportStatus.EXPIRED, [])
    with pytest.raises(InvalidTransition, match="expired"):
        exports.open_file(export=Export.objects.get(), actor=carol)


def test_only_own_files_are_deleted(export: Export, folder: Path) -> None:
    written = exports.write(export)
    Export.objects.update(status=ExportStatus.EXPIRED)
    of_another_database = written.file.replace("-20", "-19", 1)
    foreign = ["report.xlsx", f"{export.pk}-report.csv", of_another_database, f"{export.pk + 1}-1-1.csv"]
    for name in foreign:
        (folder / name).write_text("")
    (folder / f"{export.pk}-folder").mkdir()
    for path in folder.iterdir():
        path.chmod(0o755)
        os.utime(path, (0, 0))
    exports.delete_expired()
    assert set(names(folder)) == {*foreign, f"{export.pk}-folder"}
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o755}


def test_purging_deletes_files(export: Export, folder: Path, carol: User) -> None:
    exports.write(export)
    running = request(carol)
    Export.objects.filter(pk=running.pk).update(status=ExportStatus.RUNNING, claim_token="1" * 32)
    purging.purge([])
    assert names(folder) != []
    purging.purge(list(Run.objects.values_list("pk", flat=True)[:1]))
    assert (Export.objects.get(pk=export.pk).status, names(folder)) == (ExportStatus.EXPIRED, [])
    assert Export.objects.get(pk=running.pk).claim_token is None


def test_exports_need_the_permission(export: Export, make_user: Any) -> None:
    nobody = make_user()
    for call in (
        lambda: request(nobody),
        lambda: exports.cancel(export=export, actor=nobody),
        lambda: exports.open_file(export=export, actor=nobody),
    ):
        with pytest.raises(NotAllowed):
            call()
    assert Export.objects.get().status == ExportStatus.QUEUED
