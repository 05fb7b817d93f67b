"""The processes under test: started as in production, killed without warning."""

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

from loadtests.crash_points import OBSERVED, Crash
from project.web import __main__ as web
from tests.postgres import AS_ANOTHER_USER, Command, binaries
from tests.sandbox_client import Sandbox
from tests.waiting import until

# Importing Django takes seconds, so the processes are forked from one that has already done so.
forking = multiprocessing.get_context("forkserver")
forking.set_forkserver_preload(["loadtests.imported"])


class Process:
    """A process that runs one function in its own session, so that its children are killed with it."""

    def __init__(
        self,
        work: Callable[..., None],
        *arguments: Any,
        variables: Mapping[str, str],
        log: Path,
        crash: Crash | None = None,
    ) -> None:
        variables = {**variables, **(crash.variables if crash else {})}
        self.log = log
        self._process = forking.Process(target=_work, args=(variables, log, work, *arguments))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def kill(self) -> None:
        """Sends SIGKILL to the process and its children, and waits until it has ended. It may have ended before."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join()

    def suspend(self) -> None:
        """Suspends the process, as an overloaded machine or a closed laptop would."""
        os.kill(self.pid, signal.SIGSTOP)

    def wake(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    @property
    def exit_code(self) -> int | None:
        """None until the process has ended."""
        return self._process.exitcode

    def wait(self, seconds: float = 30) -> None:
        """Waits until the process has ended. Raises TimeoutError."""
        self._process.join(seconds)
        if self._process.is_alive():
            raise TimeoutError("The process has not ended.")


def _work(variables: Mapping[str, str], log: Path, work: Callable[..., None], *arguments: Any) -> None:
    os.setsid()
    multiprocessing.set_start_method("fork", force=True)  # Forked workers of the web server need no imports.
    with log.open("a") as output:
        for descriptor in (1, 2):
            os.dup2(output.fileno(), descriptor)
    os.environ.update(variables)
    _read_settings_again()
    if "CRASH_AT" not in variables:  # Logging the steps takes time, and no handler needs them.
        loggers = cast("dict[str, Any]", settings.LOGGING)["loggers"]
        for name in OBSERVED:
            loggers[name]["level"] = "INFO"
    work(*arguments)


def run_command(*words: str) -> None:
    sys.argv = list(words)
    if words[0] == "project.web":
        web.main()
    else:
        execute_from_command_line(sys.argv)


READ_AGAIN = (
    "RUNSADMIN_CONNECTIONS", "RUNSADMIN_SETTLING_TIME", "RUNSADMIN_PUSH_WAIT", "RUNSADMIN_SYNC_EVERY",
    "RUNSADMIN_API_REQUESTS_PER_MINUTE", "RUNSADMIN_API_RATE_FILE", "RUNSADMIN_EXPORT_FOLDER",
)  # fmt: skip


def _read_settings_again() -> None:
    fresh = importlib.reload(import_module("project.settings"))
    for name in READ_AGAIN:
        setattr(settings, name, getattr(fresh, name))
    connections.settings["default"].update(fresh.DATABASE)


class Worker(Process):
    """`manage.py worker`. If `fast`, it beats often, so that its death is noticed quickly."""

    def __init__(
        self,
        *,
        variables: Mapping[str, str],
        log: Path,
        crash: Crash | None = None,
        lanes: int = 1,
        fast: bool = True,
    ) -> None:
        options = _fast_options(lanes) if fast else ["--nice", "10"]
        super().__init__(
            run_command, "manage.py", "worker", "--skip-checks", *options, variables=variables, log=log, crash=crash
        )


def _fast_options(lanes: int) -> list[str]:
    name = "OFTEN" if lanes == 1 else "OFTEN_IN_LANES"
    schedule = ["--schedule", f"loadtests.schedule.{name}", "--poll-every", "0.1"]
    heartbeat = ["--beat-every", "0.2", "--dead-after", "1"]
    queues = [*["push"] * lanes, "default", "fetch", "plan", "sync"]
    return [*schedule, *heartbeat, *(option for queue in queues for option in ("--lane", queue))]


class Web(Process):
    """The web server, as in the Procfile."""

    def __init__(
        self,
        *,
        variables: Mapping[str, str],
        log: Path,
        port: int,
        crash: Crash | None = None,
        processes: int = 1,
        threads: int = 8,
    ) -> None:
        self.url = f"http://127.0.0.1:{port}"
        options = ["--port", str(port), "--processes", str(processes), "--threads", str(threads)]
        super().__init__(run_command, "project.web", *options, variables=variables, log=log, crash=crash)

    def responds(self) -> bool:
        try:
            requests.get(f"{self.url}/api/v1/runs/", timeout=5)
        except requests.RequestException:
            return False
        return True

    def patch(self, run_id: str, metadata: Mapping[str, str | None], token: str) -> int | None:
        """Returns the status of the response, or None if the connection was cut."""
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


def is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


class RecordedSandbox(Sandbox):
    """A sandbox whose state, and record of every fetch and write, survive its death."""

    module = "loadtests.recording"

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
        except requests.RequestException:  # It is restarting.
            return None


class Postgres:
    """A server that may be killed: unlike the server of other tests, it writes each commit before confirming it."""

    OPTIONS = ("listen_addresses=", "max_connections=100", "fsync=off", "synchronous_commit=on")

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        initdb: Command = [binaries() / "initdb", "--no-sync", "--auth=trust", "--username=tests", "--encoding=UTF8"]
        subprocess.run(
            [*AS_ANOTHER_USER, *initdb, "--locale=C.UTF-8", "-D", folder / "data"], check=True, capture_output=True
        )
        self.start()

    @property
    def url(self) -> str:
        return f"postgresql://tests@/postgres?host={self.folder}"

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self) -> None:
        """Starts the server, and returns when it accepts connections."""
        self._launch()
        until(self._responds, seconds=30)

    def _launch(self) -> None:
        options = [part for option in self.OPTIONS for part in ("-c", option)]
        command: Command = [
            *AS_ANOTHER_USER,
            binaries() / "postgres",
            "-D",
            self.folder / "data",
            "-k",
            self.folder,
            *options,
        ]
        with (self.folder / "log").open("a") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)

    def _responds(self) -> bool:
        if self.is_dead():  # The start failed: children of the killed server may outlive it for a moment.
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
