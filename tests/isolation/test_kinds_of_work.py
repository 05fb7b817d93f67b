"""While one kind of work hangs in the only worker, all other kinds go on."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from loadtests.environment import Environment
from loadtests.processes import Process, run_command
from runsadmin.bulk_patch import BulkPatch
from runsadmin.models import BulkEdit, Edit, Export, ExportFormat, Run, Sync, Thread
from runsadmin.services import bulk_edits, exports
from runsadmin.services.exports import NewExport
from runsadmin.services.run_search import RunSearch
from tests.engine import jobs
from tests.engine.conftest import TaskLog, task_log  # noqa: F401 - a fixture
from tests.waiting import until

type HasEnded = Callable[[], bool]

OPTIONS = ("--schedule", "loadtests.schedule.OFTEN", "--poll-every", "0.1", "--beat-every", "0.2", "--dead-after", "2")


@pytest.fixture
def works(environment: Environment) -> dict[str, Callable[[], HasEnded]]:
    """By queue: a function that starts this kind of work, and returns a function that checks whether it has ended."""
    run, *_, marked = environment.make_runs(11)
    Thread.objects.filter(pk=marked.thread_id).update(tracked=False)  # So that no sync refreshes the run.
    actor = environment.alice

    def push() -> HasEnded:
        edit = environment.record(run, f"red {Edit.objects.count()}")
        return lambda: Edit.objects.get(pk=edit.pk).status == Edit.Status.APPLIED

    def plan() -> HasEnded:
        selection = bulk_edits.by_search("status:completed")
        patch, source = BulkPatch({"note": "x"}), Edit.Source.COMMAND
        made = bulk_edits.plan(selection=selection, patch=patch, actor=actor, source=source, reason="a test")
        return lambda: BulkEdit.objects.get(pk=made.pk).status == BulkEdit.Status.PLANNED

    def sync() -> HasEnded:
        started = environment.start_full_sync()
        return lambda: Sync.objects.get(pk=started.pk).status == Sync.Status.COMPLETED

    def export() -> HasEnded:
        search = RunSearch.parse("status:completed")
        new = NewExport(actor=actor, source=Edit.Source.COMMAND, format=ExportFormat.CSV, search=search)
        requested = exports.request(new)
        return lambda: Export.objects.get(pk=requested.pk).status == Export.Status.COMPLETED

    def fetch() -> HasEnded:
        Run.objects.filter(pk=marked.pk).update(needs_refresh_since=marked.received_at)
        return lambda: Run.objects.get(pk=marked.pk).needs_refresh_since is None

    return {"push": push, "plan": plan, "sync": sync, "export": export, "fetch": fetch}


def has_lines(log: TaskLog, count: int) -> bool:
    return len(log.lines) == count


def test_no_kind_of_work_waits_for_another(
    environment: Environment,
    works: dict[str, Callable[[], HasEnded]],
    task_log: TaskLog,  # noqa: F811 - the fixture
    tmp_path: Path,
) -> None:
    variables = {**environment.variables, "RUNSADMIN_EXPORT_FOLDER": str(tmp_path / "exports")}
    worker = Process(
        run_command, "manage.py", "worker", "--skip-checks", *OPTIONS,
        variables=variables, log=environment.log("worker"),
    )  # fmt: skip
    environment.processes.append(worker)
    for count, stuck in enumerate(works, start=1):
        hanging = tmp_path / "hanging"
        hanging.touch()
        jobs.hang_while_file_exists.using(queue_name=stuck).enqueue(str(hanging), task_log.path)
        until(partial(has_lines, task_log, count))
        ended = {queue: start() for queue, start in works.items()}
        has_stuck_ended = ended.pop(stuck)
        for has_ended in ended.values():
            until(has_ended, seconds=20)
        assert not has_stuck_ended()
        hanging.unlink()
        until(has_stuck_ended)
