"""A real worker, with the real schedule, finds rows that no other process works on."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth.models import User

from runsadmin import tasks
from runsadmin.engine import stopping
from runsadmin.engine.worker import Lane
from runsadmin.metadata import MetadataPatch
from runsadmin.models import Edit, Export, ExportFormat, Run, Sync, Thread
from runsadmin.services import edits, exports, syncs
from runsadmin.services.exports import NewExport
from runsadmin.services.run_search import RunSearch
from tests.engine.conftest import url_of_the_test_database
from tests.sandbox_client import Sandbox, make_run
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def worker(sandbox: Sandbox, transactional_db: None, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = {
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "ENV_FILE": os.devnull,
        "SECRET_KEY": settings.SECRET_KEY,
        "DATABASE_URL": url_of_the_test_database(),
        "RUNSADMIN_UPSTREAM_URL": sandbox.url,
        "RUNSADMIN_UPSTREAM_API_KEY": sandbox.key,
        "RUNSADMIN_EXPORT_FOLDER": str(tmp_path / "exports"),
    }
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "worker"], cwd=settings.BASE_DIR, env=os.environ | environment, stderr=log
        )
    yield process
    process.kill()
    process.wait()


def test_worker_finds_all_due_work(
    worker: subprocess.Popen[bytes], sandbox: Sandbox, mirror_run: Callable[..., Run], alice: User
) -> None:
    run = mirror_run(metadata={"team": "blue"}, thread_id="thread_a")
    edit = edits.record(run=run, patch=MetadataPatch({"team": "red"}), actor=alice, source=Edit.Source.API)
    Edit.objects.update(next_attempt_at=edit.created_at)  # As if the process that recorded the edit had died.
    sandbox.put_runs([make_run(thread_id="thread_a", id="run_new")])
    sync = syncs.start(connection="default", kind=Sync.Kind.FULL, actor=alice)

    until(lambda: Edit.objects.get(pk=edit.pk).status == Edit.Status.APPLIED)
    until(lambda: Sync.objects.get(pk=sync.pk).status == Sync.Status.COMPLETED)
    assert sandbox.metadata(run.upstream_id) == {"team": "red"}
    assert Run.objects.filter(upstream_id="run_new").exists()

    sandbox.set_metadata("run_new", {"team": "green"})
    Run.objects.filter(upstream_id="run_new").update(needs_refresh_since=edit.created_at)
    until(lambda: Run.objects.get(upstream_id="run_new").metadata == {"team": "green"})


def test_worker_writes_exports(
    worker: subprocess.Popen[bytes], mirror_run: Callable[..., Run], alice: User, tmp_path: Path
) -> None:
    mirror_run(id="run_a")
    search = RunSearch.parse("status:completed")
    new = NewExport(actor=alice, source=Edit.Source.API, format=ExportFormat.CSV, search=search)
    export = exports.request(new)
    until(lambda: Export.objects.get().status == Export.Status.COMPLETED)
    assert "run_a" in (tmp_path / "exports" / Export.objects.get(pk=export.pk).file).read_text()


def test_schedule_syncs_new_threads(worker: subprocess.Popen[bytes], sandbox: Sandbox, alice: User) -> None:
    sandbox.put_runs([make_run(thread_id="thread_a")])
    Thread.objects.create(connection="default", upstream_id="thread_a")
    until(lambda: Run.objects.exists(), seconds=60)
    assert Sync.objects.get().actor is None


def test_worker_stops_within_seconds(worker: subprocess.Popen[bytes], sandbox: Sandbox, alice: User) -> None:
    names = [f"thread_{number}" for number in range(100)]
    sandbox.put_runs([make_run(thread_id=name) for name in names])
    sandbox.settings(latency_ms=200)
    Thread.objects.bulk_create([Thread(connection="default", upstream_id=name) for name in names])
    sync = syncs.start(connection="default", kind=Sync.Kind.FULL, actor=alice)
    until(lambda: Sync.objects.get(pk=sync.pk).threads_done > 1)
    worker.terminate()
    assert worker.wait(10) == 0
    stopped = Sync.objects.get(pk=sync.pk)
    assert (stopped.status, stopped.claim_token) == (Sync.Status.RUNNING, None)
    assert stopped.threads_done < 100


def test_failing_push_enqueues_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> int:
        raise RuntimeError("a column was renamed")

    def run_all() -> int:
        """Runs at most ten waiting tasks, and returns how many there were."""
        count = 0
        while count < 10 and (task := lane.claim()):
            lane.run_task(task)
            count += 1
        return count

    lane = Lane(worker_id="worker/0", queue_names=["push"])
    monkeypatch.setattr(edits, "has_backlog", lambda: True)
    monkeypatch.setattr(stopping, "wait", lambda _: False)
    with monkeypatch.context() as patched:
        patched.setattr(edits, "process_due", fail)
        tasks.push_edits.enqueue()
        assert run_all() == 2  # The first one could not know that it would fail.
        tasks.push_edits.enqueue()
        assert run_all() == 1
    tasks.push_edits.enqueue()
    assert run_all() == 1
    tasks.push_edits.enqueue()
    assert run_all() == 10  # It works again, and the backlog is still there.
