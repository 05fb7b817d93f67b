"""Real workers for the tests: processes of `manage.py worker` on the test's own database."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, urlsplit

import pytest
from django.conf import settings
from django.db import connection

from tests.waiting import until


def url_of_the_test_database() -> str:
    name = str(connection.settings_dict["NAME"])
    if connection.vendor == "sqlite":
        return f"sqlite:///{name}"
    return urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{quote(name)}").geturl()


class Diary:
    """The lines that the tasks of tests.engine.jobs have written."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        path.touch()

    @property
    def lines(self) -> list[str]:
        return Path(self.path).read_text().splitlines()


class WorkerUnderTest:
    def __init__(self, *options: str, log: Path, diary: Diary) -> None:
        self.log = log
        with log.open("w") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "worker", "--skip-checks", *options],
                cwd=settings.BASE_DIR,
                env=os.environ | {"DATABASE_URL": url_of_the_test_database(), "DIARY": diary.path},
                stderr=stderr,
            )
        self.pid = self.process.pid

    def says(self, words: str) -> bool:
        return words in self.log.read_text()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self) -> bool:
        return self.process.poll() is not None


class StartWorker(Protocol):
    def __call__(self, *options: str, schedule: str = ...) -> WorkerUnderTest: ...


@pytest.fixture
def diary(tmp_path: Path) -> Diary:
    return Diary(tmp_path / "diary")


@pytest.fixture
def start_worker(transactional_db: None, tmp_path: Path, diary: Diary) -> Iterator[StartWorker]:
    """Starts a worker and waits until it takes tasks. It is stopped however the test ends."""
    workers: list[WorkerUnderTest] = []

    def start(*options: str, schedule: str = "NOTHING") -> WorkerUnderTest:
        path = tmp_path / f"worker-{len(workers)}"
        worker = WorkerUnderTest("--schedule", f"tests.engine.jobs.{schedule}", *options, log=path, diary=diary)
        workers.append(worker)
        until(lambda: worker.says("started") or worker.ended(), seconds=60)
        assert not worker.ended(), path.read_text()
        return worker

    yield start
    for worker in workers:
        worker.process.kill()  # Ends one that was stopped, too.
        worker.process.wait()
