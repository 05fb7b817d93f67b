"""Tasks and schedules for the tests of the engine. Tasks write to a file, because no rollback undoes that."""

import os
import signal
import time
from datetime import timedelta
from pathlib import Path

from django.tasks import task

from runsadmin.engine import stopping
from runsadmin.engine.recurring import Entry


def write(task_log: str, line: str) -> None:
    with Path(task_log).open("a") as file:  # Short writes to a file opened for appending are atomic.
        file.write(f"{line}\n")


@task
def note(task_log: str, line: str) -> None:
    write(task_log, line)


@task
def work(task_log: str, seconds: float) -> int:
    """Writes a line at its start and at its end, each with the id of the process."""
    write(task_log, f"start {os.getpid()}")
    time.sleep(seconds)
    write(task_log, f"end {os.getpid()}")
    return os.getpid()


@task
def hang_the_first_time(task_log: str) -> int:
    first = not Path(task_log).read_text()
    return work.func(task_log, 60 if first else 0)


@task(queue_name="long")
def work_until_stopped(task_log: str) -> None:
    write(task_log, "long start")
    stopping.wait(60)
    write(task_log, "long end")


@task
def hang_while_file_exists(path: str, task_log: str) -> None:
    write(task_log, "hanging")
    while Path(path).exists():
        time.sleep(0.05)


@task
def fail(task_log: str) -> None:
    write(task_log, "fail")
    raise RuntimeError("the error of the task")


@task
def fail_with_unstorable_text(task_log: str) -> None:
    """No database can store the text of the error: PostgreSQL refuses U+0000, and both refuse a lone surrogate."""
    write(task_log, "fail")
    raise RuntimeError("a\0b\ud800c")


@task
def return_unstorable_object(task_log: str) -> object:
    write(task_log, "return")
    return object()


@task
def kill_the_worker(task_log: str) -> None:
    write(task_log, "kill")
    os.kill(os.getpid(), signal.SIGKILL)


@task
def do_nothing(row: int) -> None:
    """A task for one row."""


@task
def tick() -> None:
    write(os.environ["TASK_LOG"], "tick")


@task
def rare_tick() -> None:
    write(os.environ["TASK_LOG"], "rare tick")


@task
def failing_tick() -> None:
    write(os.environ["TASK_LOG"], "failing tick")
    raise RuntimeError("the same error")


@task
def slow_tick() -> None:
    write(os.environ["TASK_LOG"], "slow start")
    time.sleep(1)
    write(os.environ["TASK_LOG"], "slow end")


SCHEDULE = (
    Entry("tick", tick, every=timedelta(seconds=1)),
    Entry("slow tick", slow_tick, every=timedelta(seconds=0.3)),
    Entry("rare tick", rare_tick, every=timedelta(days=1)),
)
FAILING_SCHEDULE = (Entry("failing tick", failing_tick, every=timedelta(seconds=0.2)),)
EMPTY_SCHEDULE: tuple[Entry, ...] = ()
