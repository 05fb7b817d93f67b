import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from tests.sandbox_client import ROOT, Sandbox

MODULE = [sys.executable, "-m", "sandbox"]


@contextmanager
def started(command: list[str], **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Starts a process. Yields it with the line that it prints when it is ready."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline()
        finally:
            process.kill()


def test_address_is_printed() -> None:
    with started([*MODULE, "--port", "0", "--memory"]) as (_, line):
        found = re.fullmatch(r"sandbox listening on (http://127\.0\.0\.1:\d+/v1)\n", line)
        assert found
        assert requests.get(f"{found[1]}/threads", timeout=5).json()["data"] == []  # Without --key, no key is required.


def test_seeded_runs_survive_a_restart(tmp_path: Path) -> None:
    sandbox = Sandbox.start(0, tmp_path, "key", "--seed", "--threads", "3", "--runs", "30")
    runs = sandbox.runs()
    sandbox.restart()
    assert len(runs) == 30
    assert sandbox.runs() == runs
    sandbox.stop()


def test_port_in_use_is_reported_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as used:
        port = used.getsockname()[1]
        command = [*MODULE, "--port", str(port), "--memory"]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=10, check=False)
    assert result.returncode == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert f"127.0.0.1:{port}" in result.stderr
    assert "--port" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_stops_the_sandbox_at_once(number: signal.Signals) -> None:
    with started([*MODULE, "--port", "0", "--memory"]) as (process, line):
        url = line.split()[-1]
        requests.post(url.replace("/v1", "/_sandbox/faults"), json={"kind": "hang"}, timeout=5)
        with pytest.raises(requests.ReadTimeout), requests.Session() as session:
            session.get(f"{url}/threads", timeout=0.1)
        with socket.create_connection(("127.0.0.1", urlsplit(url).port)):  # This connection stays open.
            start = time.monotonic()
            process.send_signal(number)
            assert process.wait(5) == 0
        assert time.monotonic() - start < 1
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_defaults_come_from_environment(tmp_path: Path) -> None:
    command = [*MODULE, "--state", str(tmp_path)]
    with started(command, SANDBOX_PORT="0", SANDBOX_KEY="key-of-the-tests") as (_, line):
        url = line.split()[-1]
        assert requests.get(f"{url}/threads", timeout=5).status_code == 401
        headers = {"Authorization": "Bearer key-of-the-tests"}
        assert requests.get(f"{url}/threads", headers=headers, timeout=5).status_code == 200


def test_sandbox_imports_neither_django_nor_app() -> None:
    code = (
        "import sys, sandbox.command_line\n"
        "packages = {name.partition('.')[0] for name in sys.modules}\n"
        "print(packages & {'django', 'rest_framework', 'project', 'runsadmin'})"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
