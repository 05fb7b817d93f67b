"""Real workers: processes of `manage.py worker` that use the database of the test."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, urlsplit

import pytest
from django.db import connection

from loadtests.processes import Process, run_command
from tests.waiting import until


def url_of_the_test_database() -> str:
    name = str(connection.settings_dict["NAME"])
    if connection.vendor == "sqlite":
        return f"sqlite:///{name}"
    return urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{quote(name)}").geturl()


class TaskLog:
    """The file to which the tasks of tests.engine.jobs write lines."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        path.touch()

    @property
    def lines(self) -> list[str]:
        return Path(self.path).read_text().splitlines()


class WorkerUnderTest(Process):
    def __init__(self, *options: str, log: Path, task_log: TaskLog) -> None:
        variables = {"DATABASE_URL": url_of_the_test_database(), "TASK_LOG": task_log.path}
        arguments = ("manage.py", "worker", "--skip-checks", *options)
        super().__init__(run_command, *arguments, variables=variables, log=log)

    def has_logged(self, text: str) -> bool:
        return text in self.log.read_text()

    def has_ended(self) -> bool:
        return self.exit_code is not None


class StartWorker(Protocol):
    def __call__(self, *options: str, schedule: str = ...) -> WorkerUnderTest: ...


@pytest.fixture
def task_log(tmp_path: Path) -> TaskLog:
    return TaskLog(tmp_path / "tasks")


@pytest.fixture
def start_worker(transactional_db: None, tmp_path: Path, task_log: TaskLog) -> Iterator[StartWorker]:
    """Starts a worker and waits until it takes tasks. Kills it after the test."""
    workers: list[WorkerUnderTest] = []

    def start(*options: str, schedule: str = "EMPTY_SCHEDULE") -> WorkerUnderTest:
        path = tmp_path / f"worker-{len(workers)}"
        path.touch()
        worker = WorkerUnderTest("--schedule", f"tests.engine.jobs.{schedule}", *options, log=path, task_log=task_log)
        workers.append(worker)
        until(lambda: worker.has_logged("started") or worker.has_ended(), seconds=60)
        assert worker.has_logged("started"), path.read_text()  # A deadly task may have killed it since then.
        return worker

    yield start
    for worker in workers:
        worker.kill()  # SIGKILL also ends a process that SIGSTOP has stopped.
