"""Real worker processes: which tasks they run, how they stop, and what happens to their tasks when they die."""

import itertools
import os
import signal
import statistics
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection, connections, transaction
from django.tasks import TaskResultStatus
from django_tasks_db.models import DBTaskResult

from runsadmin.engine import worker as engine_worker
from runsadmin.engine.heartbeat import beat_age
from runsadmin.engine.worker import Lane, WorkerProcess
from runsadmin.models.worker import Worker
from tests.engine import conftest, jobs
from tests.engine.conftest import StartWorker, TaskLog, WorkerUnderTest
from tests.waiting import until

# Options that detect a dead worker within a second.
FAST_DETECTION = ("--beat-every", "0.2", "--dead-after", "1")


def test_rolled_back_task_never_runs(start_worker: StartWorker, task_log: TaskLog) -> None:
    start_worker()
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        jobs.note.enqueue(task_log.path, "rolled back")
        1 / 0  # noqa: B018
    with transaction.atomic():
        jobs.note.enqueue(task_log.path, "committed")
        time.sleep(0.6)
        assert task_log.lines == []  # A task does not run before its transaction is committed.
    until(lambda: task_log.lines)
    time.sleep(0.6)
    assert task_log.lines == ["committed"]


def finished_task(task_id: str) -> DBTaskResult[..., Any]:
    finished = DBTaskResult.objects.filter(pk=task_id, finished_at__isnull=False)
    until(finished.exists)
    return finished.get()


def test_idle_worker_starts_task_within_half_a_second(start_worker: StartWorker, task_log: TaskLog) -> None:
    start_worker()
    delays = []
    for _ in range(5):
        row = finished_task(jobs.note.enqueue(task_log.path, "now").id)
        assert row.started_at is not None
        delays.append((row.started_at - row.enqueued_at).total_seconds())
    assert statistics.median(delays) < 0.5


def test_nice_worker_has_a_lower_priority(start_worker: StartWorker) -> None:
    worker = start_worker("--nice", "10")
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, worker.pid) == min(own + 10, 19)
    if (autogroup := Path(f"/proc/{worker.pid}/autogroup")).exists():
        assert autogroup.read_text().endswith(" nice 10\n")


def test_worker_is_alive_before_its_first_task(start_worker: StartWorker) -> None:
    start_worker("--beat-every", "60", "--dead-after", "180")
    assert Worker.objects.count() == 1


def test_two_workers_run_each_task_once(start_worker: StartWorker, task_log: TaskLog) -> None:
    workers = [start_worker(), start_worker()]
    for number in range(60):
        jobs.note.enqueue(task_log.path, str(number))
        jobs.work.enqueue(task_log.path, 0.01)
    until(lambda: not DBTaskResult.objects.exclude(status=TaskResultStatus.SUCCESSFUL).exists())
    assert sorted(line for line in task_log.lines if line.isdigit()) == sorted(str(number) for number in range(60))
    assert {line for line in task_log.lines if line.startswith("start")} == {
        f"start {worker.pid}" for worker in workers
    }
    assert len([line for line in task_log.lines if line.startswith("start")]) == 60
    for worker in workers:
        assert not worker.has_logged("locked")


def test_long_task_does_not_block_small_ones(start_worker: StartWorker, task_log: TaskLog) -> None:
    start_worker()
    for _ in range(3):
        jobs.work_until_stopped.enqueue(task_log.path)
    until(lambda: "long start" in task_log.lines)
    jobs.note.enqueue(task_log.path, "small")
    until(lambda: "small" in task_log.lines, seconds=5)
    assert task_log.lines == ["long start", "small"]


def test_lane_can_take_several_queues(start_worker: StartWorker, task_log: TaskLog) -> None:
    start_worker("--lane", "default,long")
    jobs.work_until_stopped.enqueue(task_log.path)
    until(lambda: task_log.lines)
    jobs.note.enqueue(task_log.path, "small")
    time.sleep(0.6)
    assert task_log.lines == ["long start"]  # One lane runs one task at a time.


def test_failed_task_is_logged_and_kept(start_worker: StartWorker, task_log: TaskLog) -> None:
    worker = start_worker()
    failed = jobs.fail.enqueue(task_log.path)
    jobs.note.enqueue(task_log.path, "the worker continues")
    until(lambda: "the worker continues" in task_log.lines)
    row = DBTaskResult.objects.get(pk=failed.id)
    assert row.status == TaskResultStatus.FAILED
    assert "RuntimeError: the error of the task" in row.traceback
    assert worker.has_logged(f"Task id={failed.id}")
    assert worker.has_logged("the error of the task")


@pytest.mark.parametrize("job", [jobs.fail_with_unstorable_text, jobs.return_unstorable_object])
def test_unstorable_result_ends_the_task(job: Any, start_worker: StartWorker, task_log: TaskLog) -> None:
    worker = start_worker()
    failed = job.enqueue(task_log.path)
    jobs.note.enqueue(task_log.path, "the worker continues")
    until(lambda: "the worker continues" in task_log.lines)
    row = DBTaskResult.objects.get(pk=failed.id)
    assert row.status == TaskResultStatus.FAILED
    assert "Error" in row.traceback
    assert len(task_log.lines) == 2
    assert len(worker.log.read_text().splitlines()) < 50


def test_deadly_task_kills_three_workers(start_worker: StartWorker, task_log: TaskLog) -> None:
    deadly = jobs.kill_the_worker.enqueue(task_log.path)
    for _ in range(3):
        worker = start_worker(*FAST_DETECTION)
        until(worker.has_ended)
    other = start_worker(*FAST_DETECTION)
    until(lambda: DBTaskResult.objects.get(pk=deadly.id).status == TaskResultStatus.FAILED)
    jobs.note.enqueue(task_log.path, "the worker continues")
    until(lambda: "the worker continues" in task_log.lines)
    assert task_log.lines.count("kill") == 3
    assert other.has_logged("It was left running 3 times")


def test_repeated_failure_is_logged_with_one_traceback(start_worker: StartWorker, task_log: TaskLog) -> None:
    worker = start_worker("--beat-every", "0.1", schedule="FAILING_SCHEDULE")
    until(lambda: len(task_log.lines) >= 4)
    until(lambda: worker.log.read_text().count("RuntimeError: the same error (Its traceback was logged before.)") >= 2)
    assert worker.log.read_text().count("Traceback (most recent call last)") == 1


def test_task_of_a_removed_function_fails(start_worker: StartWorker, task_log: TaskLog) -> None:
    worker = start_worker()
    with transaction.atomic():
        gone = jobs.note.enqueue(task_log.path, "never")
        DBTaskResult.objects.filter(pk=gone.id).update(task_path="tests.engine.jobs.removed_task")
    jobs.note.enqueue(task_log.path, "the worker continues")
    until(lambda: task_log.lines)
    assert task_log.lines == ["the worker continues"]
    assert DBTaskResult.objects.get(pk=gone.id).status == TaskResultStatus.FAILED
    assert worker.has_logged(gone.id)


def test_signal_lets_the_task_finish(start_worker: StartWorker, task_log: TaskLog) -> None:
    worker = start_worker()
    running, waiting = jobs.work.enqueue(task_log.path, 0.5), jobs.work.enqueue(task_log.path, 0.5)
    until(lambda: task_log.lines)
    worker.send(signal.SIGTERM)
    until(worker.has_ended)
    assert worker.exit_code == 0
    assert task_log.lines == [f"start {worker.pid}", f"end {worker.pid}"]
    assert DBTaskResult.objects.get(pk=running.id).status == TaskResultStatus.SUCCESSFUL
    assert DBTaskResult.objects.get(pk=waiting.id).status == TaskResultStatus.READY
    assert not Worker.objects.exists()


def test_long_task_can_stop_at_shutdown(start_worker: StartWorker, task_log: TaskLog) -> None:
    worker = start_worker()
    jobs.work_until_stopped.enqueue(task_log.path)
    until(lambda: task_log.lines)
    worker.send(signal.SIGTERM)
    until(worker.has_ended, seconds=5)
    assert task_log.lines == ["long start", "long end"]


def test_second_signal_requeues_the_task(start_worker: StartWorker, task_log: TaskLog) -> None:
    worker = start_worker()
    task = jobs.hang_the_first_time.enqueue(task_log.path)
    until(lambda: task_log.lines)
    worker.send(signal.SIGINT)
    time.sleep(0.5)
    assert not worker.has_ended()
    worker.send(signal.SIGINT)
    until(worker.has_ended, seconds=5)
    assert worker.exit_code == 1

    other = start_worker(*FAST_DETECTION)
    until(lambda: f"end {other.pid}" in task_log.lines)
    until(lambda: DBTaskResult.objects.get(pk=task.id).status == TaskResultStatus.SUCCESSFUL)


def test_killed_workers_task_restarts_within_15_seconds(start_worker: StartWorker, task_log: TaskLog) -> None:
    worker = start_worker()
    task = jobs.hang_the_first_time.enqueue(task_log.path)
    until(lambda: task_log.lines)
    other = start_worker()  # This worker has the default timings.
    worker.send(signal.SIGKILL)
    killed_at = time.monotonic()
    until(lambda: f"end {other.pid}" in task_log.lines)
    assert time.monotonic() - killed_at < 15
    assert other.has_logged(f"Task id={task.id} was left running by worker")


def test_heartbeat_continues_during_a_task(start_worker: StartWorker, task_log: TaskLog) -> None:
    for _ in range(2):
        start_worker("--beat-every", "0.2", "--dead-after", "2.5")
    jobs.work.enqueue(task_log.path, 3.5)
    until(lambda: len(task_log.lines) == 2)
    time.sleep(0.5)
    assert len(task_log.lines) == 2
    assert Worker.objects.count() == 2


def stop_outside_transactions(worker: WorkerUnderTest) -> None:
    """Stops a worker while it does not hold SQLite's write lock: other processes would wait for the lock in vain."""
    while True:
        worker.send(signal.SIGSTOP)
        until(lambda: Path(f"/proc/{worker.pid}/stat").read_text().rpartition(") ")[2].startswith("T"))
        try:
            Worker.objects.filter(pk="no worker").update(id="")  # Needs the lock although no row matches.
        except OperationalError:
            worker.send(signal.SIGCONT)
        else:
            return


def test_stalled_worker_overwrites_nothing(start_worker: StartWorker, task_log: TaskLog) -> None:
    stalled = start_worker(*FAST_DETECTION)
    task = jobs.work.enqueue(task_log.path, 2)
    until(lambda: f"start {stalled.pid}" in task_log.lines)
    stop_outside_transactions(stalled)
    other = start_worker(*FAST_DETECTION)
    until(lambda: f"start {other.pid}" in task_log.lines, seconds=90)
    stalled.send(signal.SIGCONT)
    until(lambda: stalled.has_logged("claimed by another worker"))

    until(lambda: f"end {other.pid}" in task_log.lines)
    until(lambda: DBTaskResult.objects.get(pk=task.id).status != TaskResultStatus.RUNNING)
    row = DBTaskResult.objects.get(pk=task.id)
    assert (row.status, row.return_value) == (TaskResultStatus.SUCCESSFUL, other.pid)
    assert len(row.worker_ids) == 2
    until(lambda: Worker.objects.count() == 2)  # The stalled worker counts as alive again.
    age = beat_age()
    assert age is not None
    assert age < 2


@pytest.mark.django_db(transaction=True)
def test_task_with_unsaved_result_runs_again(monkeypatch: pytest.MonkeyPatch, task_log: TaskLog) -> None:
    stopping = threading.Event()
    monkeypatch.setattr(engine_worker, "stopping", stopping)
    save, calls = engine_worker._save_if_claimed, itertools.count()

    def fail_six_times(*args: object, **kwargs: object) -> None:
        """The library tries three times to save a success, and three times to save a failure."""
        if next(calls) < 6:
            raise OperationalError("the database is unavailable")
        save(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(engine_worker, "_save_if_claimed", fail_six_times)
    task = jobs.note.enqueue(task_log.path, "done")
    lane = Lane(worker_id="worker/0", queue_names=["default"])
    thread = threading.Thread(target=lane.run)
    thread.start()
    try:
        until(lambda: DBTaskResult.objects.get(pk=task.id).status == TaskResultStatus.SUCCESSFUL)
    finally:
        stopping.set()
        lane.wakes.set()
        thread.join()
    assert task_log.lines == ["done", "done"]
    connections.close_all()


@pytest.mark.django_db(transaction=True)
def test_connection_is_closed_after_an_error() -> None:
    def fail() -> None:
        connection.ensure_connection()
        raise OperationalError("attempt to write a readonly database")

    with engine_worker._errors_logged():
        fail()
    assert connection.connection is None


@pytest.mark.django_db(transaction=True)
def test_only_lanes_with_tasks_are_woken(monkeypatch: pytest.MonkeyPatch, task_log: TaskLog) -> None:
    stopping = threading.Event()
    monkeypatch.setattr(engine_worker, "stopping", stopping)
    claim, claims = Lane.claim, Counter[str]()

    def counted_claim(lane: Lane) -> DBTaskResult[..., Any] | None:
        claims[lane.queue_names[0]] += 1
        return claim(lane)

    monkeypatch.setattr(Lane, "claim", counted_claim)
    worker = WorkerProcess(schedule=(), lanes=[["default"], ["long"]], poll_every=0.02)
    threads = [threading.Thread(target=run) for run in (worker.poll_loop, *(lane.run for lane in worker.lanes))]
    for thread in threads:
        thread.start()
    try:
        until(lambda: claims == {"default": 1, "long": 1})
        task = jobs.note.enqueue(task_log.path, "done")
        until(lambda: DBTaskResult.objects.get(pk=task.id).status == TaskResultStatus.SUCCESSFUL)
        time.sleep(0.5)  # Lanes that polled by themselves would have done so many times by now.
        assert claims["long"] == 1
        # At the start, for the task and after it. A poll in the meantime can cause one more.
        assert 3 <= claims["default"] <= 4
    finally:
        stopping.set()
        for thread in threads:
            thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    connections.close_all()


@pytest.mark.django_db(transaction=True)
def test_lanes_find_tasks_while_polling_hangs(monkeypatch: pytest.MonkeyPatch, task_log: TaskLog) -> None:
    stopping = threading.Event()
    monkeypatch.setattr(engine_worker, "stopping", stopping)
    monkeypatch.setattr(engine_worker, "LONGEST_WAIT", 0.05)
    lane = Lane(worker_id="worker/0", queue_names=["default"])
    thread = threading.Thread(target=lane.run)
    thread.start()
    try:
        time.sleep(0.2)
        task = jobs.note.enqueue(task_log.path, "done")
        until(lambda: DBTaskResult.objects.get(pk=task.id).status == TaskResultStatus.SUCCESSFUL)
    finally:
        stopping.set()
        thread.join(10)
    assert not thread.is_alive()
    connections.close_all()


@pytest.mark.only_on("sqlite")
@pytest.mark.parametrize("is_replaced", [False, True])
def test_worker_ends_without_its_database(
    is_replaced: bool, start_worker: StartWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, other = tmp_path / "db.sqlite3", tmp_path / "other.sqlite3"
    for path in (file, other):
        connection.cursor().execute("VACUUM INTO %s", [str(path)])
    monkeypatch.setattr(conftest, "url_of_the_test_database", lambda: f"sqlite:///{file}")
    worker = start_worker(*FAST_DETECTION)
    opened = Path(f"/proc/{worker.pid}/fd")
    until(lambda: file.resolve() in [descriptor.resolve() for descriptor in opened.iterdir()])
    if is_replaced:
        other.replace(file)
    else:
        file.unlink()
    worker.wait()
    assert worker.exit_code == 1
    assert worker.log.read_text().count("was deleted or replaced while this worker used it") == 1
