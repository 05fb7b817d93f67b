"""The processes under test: started as in life, and killed without warning."""

import importlib
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Self, cast

import psycopg
import requests
from django.conf import settings
from django.core.management import execute_from_command_line
from django.db import connections

from tests.crashes.seam import OBSERVED, Crash
from tests.postgres import AS_SOMEBODY, Command, binaries
from tests.sandbox_client import Sandbox
from tests.waiting import until

# Django takes seconds to import. The processes are forked from one that has done it once; what dies afterwards is a
# process like any other.
forking = multiprocessing.get_context("forkserver")
forking.set_forkserver_preload(["tests.crashes.imported"])


class Process:
    """Does one thing, in a session of its own, so that what it starts dies with it."""

    def __init__(
        self,
        work: Callable[..., None],
        *arguments: Any,
        environment: Mapping[str, str],
        log: Path,
        crash: Crash | None = None,
    ) -> None:
        environment = {**environment, **(crash.environment if crash else {})}
        self.log = log
        self._process = forking.Process(target=_work, args=(environment, log, work, *arguments))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def kill(self) -> None:
        """SIGKILL for it and all that it started. Returns when it is gone; it may have been gone before."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join()

    def stop(self) -> None:
        """Takes all time away from it, as a full machine or a closed lid would."""
        os.kill(self.pid, signal.SIGSTOP)

    def wake(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def wait(self, seconds: float = 30) -> None:
        """Returns when it has ended. Raises TimeoutError."""
        self._process.join(seconds)
        if self._process.is_alive():
            raise TimeoutError("It has not died.")


def _work(environment: Mapping[str, str], log: Path, work: Callable[..., None], *arguments: Any) -> None:
    os.setsid()
    multiprocessing.set_start_method("fork", force=True)  # So that the web server, too, need not import all again.
    with log.open("a") as output:
        for descriptor in (1, 2):
            os.dup2(output.fileno(), descriptor)
    os.environ.update(environment)
    _read_settings_again()
    if "CRASH_AT" not in environment:  # Telling every step costs time, and nobody listens.
        loggers = cast("dict[str, Any]", settings.LOGGING)["loggers"]
        for name in OBSERVED:
            loggers[name]["level"] = "INFO"
    work(*arguments)


def _command(*words: str) -> None:
    sys.argv = list(words)
    if words[0] == "granian":
        import_module("granian.cli").entrypoint()
    else:
        execute_from_command_line(sys.argv)


READ_AGAIN = ("RUNSADMIN_CONNECTIONS", "RUNSADMIN_SETTLING_TIME", "RUNSADMIN_PUSH_WAIT", "RUNSADMIN_SYNC_EVERY")


def _read_settings_again() -> None:
    fresh = importlib.reload(import_module("project.settings"))
    for name in READ_AGAIN:
        setattr(settings, name, getattr(fresh, name))
    connections.settings["default"].update(fresh.DATABASE)


class Worker(Process):
    """`manage.py worker`, unless told otherwise with a short heart so that its death is soon found out."""

    def __init__(
        self,
        *,
        environment: Mapping[str, str],
        log: Path,
        crash: Crash | None = None,
        lanes: int = 1,
        hurried: bool = True,
    ) -> None:
        options = _hurry(lanes) if hurried else []
        super().__init__(
            _command, "manage.py", "worker", "--skip-checks", *options, environment=environment, log=log, crash=crash
        )


def _hurry(lanes: int) -> list[str]:
    schedule = ["--schedule", "tests.crashes.schedule.OFTEN", "--poll-every", "0.05"]
    heart = ["--beat-every", "0.2", "--dead-after", "1"]
    queues = [*["push"] * lanes, "default", "long"]
    return [*schedule, *heart, *(option for queue in queues for option in ("--lane", queue))]


class Web(Process):
    """The WSGI application in the server of the Procfile."""

    def __init__(self, *, environment: Mapping[str, str], log: Path, port: int, crash: Crash | None = None) -> None:
        self.url = f"http://127.0.0.1:{port}"
        where = ["--interface", "wsgi", "--host", "127.0.0.1", "--port", str(port)]
        size = ["--workers", "1", "--blocking-threads", "8", "--no-ws", "--log-level", "warning"]
        super().__init__(
            _command,
            "granian",
            *where,
            *size,
            "project.wsgi:application",
            environment=environment,
            log=log,
            crash=crash,
        )

    def responses(self) -> bool:
        try:
            requests.get(f"{self.url}/api/v1/runs/", timeout=5)
        except requests.RequestException:
            return False
        return True

    def patch(self, run_id: str, metadata: Mapping[str, str | None], token: str) -> int | None:
        """The status of the answer, None when the connection was cut."""
        try:
            return requests.patch(
                f"{self.url}/api/v1/runs/{run_id}/",
                json={"metadata": metadata},
                headers={"Authorization": f"Token {token}"},
                timeout=30,
            ).status_code
        except requests.RequestException:
            return None


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


class RecordedSandbox(Sandbox):
    """A sandbox that keeps its state and a record of every look and write, whenever it dies."""

    module = "tests.crashes.recording"

    @classmethod
    def in_folder(cls, folder: Path) -> Self:
        folder.mkdir(parents=True, exist_ok=True)
        return cls.start(0, folder / "state")

    @property
    def record(self) -> Path:
        assert self._state is not None
        return self._state.with_name("record")

    def is_dead(self) -> bool:
        return self.process.poll() is not None

    def restart(self) -> None:
        self.kill()
        self._launch()

    def reset(self) -> None:
        super().reset()
        self.record.write_bytes(b"")

    def add_pairs(self, run_id: str, pairs: Any) -> float | None:
        try:
            return super().add_pairs(run_id, pairs)
        except requests.RequestException:  # It is dead just now.
            return None


class Postgres:
    """A server that may be killed: unlike that of the other tests it has written a commit down before it says so."""

    OPTIONS = ("listen_addresses=", "max_connections=100", "fsync=off", "synchronous_commit=on")

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        initdb: Command = [binaries() / "initdb", "--no-sync", "--auth=trust", "--username=tests", "--encoding=UTF8"]
        subprocess.run(
            [*AS_SOMEBODY, *initdb, "--locale=C.UTF-8", "-D", folder / "data"], check=True, capture_output=True
        )
        self.start()

    @property
    def url(self) -> str:
        return f"postgresql://tests@/postgres?host={self.folder}"

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self) -> None:
        """Returns when it answers."""
        self._launch()
        until(self._answers, seconds=30)

    def _launch(self) -> None:
        options = [part for option in self.OPTIONS for part in ("-c", option)]
        command: Command = [
            *AS_SOMEBODY,
            binaries() / "postgres",
            "-D",
            self.folder / "data",
            "-k",
            self.folder,
            *options,
        ]
        with (self.folder / "log").open("a") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)

    def _answers(self) -> bool:
        if self.is_dead():  # Those that it had started before it was killed are not gone yet.
            self._launch()
        try:
            psycopg.connect(self.url).close()
        except psycopg.OperationalError:
            return False
        return True

    def is_dead(self) -> bool:
        return self._process.poll() is not None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.wait()
