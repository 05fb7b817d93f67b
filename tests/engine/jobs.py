"""Tasks and schedules for the tests of the engine. They write to a file, which no rollback undoes."""

import os
import time
from datetime import timedelta
from pathlib import Path

from django.tasks import task

from runsadmin.engine import stopping
from runsadmin.engine.recurring import Entry


def write(diary: str, line: str) -> None:
    with Path(diary).open("a") as file:  # One short write to a file opened for appending is never torn.
        file.write(f"{line}\n")


@task
def note(diary: str, line: str) -> None:
    write(diary, line)


@task
def work(diary: str, seconds: float) -> int:
    """Notes when it starts and ends, and in which process."""
    write(diary, f"start {os.getpid()}")
    time.sleep(seconds)
    write(diary, f"end {os.getpid()}")
    return os.getpid()


@task
def hang_the_first_time(diary: str) -> int:
    first = not Path(diary).read_text()
    return work.func(diary, 60 if first else 0)


@task(queue_name="long")
def work_until_stopped(diary: str) -> None:
    write(diary, "long start")
    stopping.wait(60)
    write(diary, "long end")


@task
def fail(diary: str) -> None:
    write(diary, "fail")
    raise RuntimeError("the words of the failure")


@task
def tick() -> None:
    write(os.environ["DIARY"], "tick")


@task
def rare_tick() -> None:
    write(os.environ["DIARY"], "rare tick")


@task
def slow_tick() -> None:
    write(os.environ["DIARY"], "slow start")
    time.sleep(1)
    write(os.environ["DIARY"], "slow end")


SCHEDULE = (
    Entry("tick", tick, every=timedelta(seconds=1)),
    Entry("slow tick", slow_tick, every=timedelta(seconds=0.3)),
    Entry("rare tick", rare_tick, every=timedelta(days=1)),
)
NOTHING: tuple[Entry, ...] = ()
