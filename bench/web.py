"""Requests a REST page of 100 runs over HTTP from two web processes, of the product and of a plain project."""

import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import requests
import uvloop

from bench import databases, load

PROCESSES, THREADS = 2, 4  # As in the Procfile.
ROUNDS = 5
OURS, CURSOR, OFFSET = "runsadmin", "ModelSerializer, cursor", "ModelSerializer, LimitOffset"
PATHS = {OURS: "/api/v1/runs/?page_size=100", CURSOR: "/cursor/", OFFSET: "/offset/?limit=100"}


def measure(url: str, requests_per_round: int) -> dict[str, Any]:
    """The requests per second of each page, in alternating rounds, so that other load affects all of them equally."""
    token = databases.in_process(url, "pages.token", settings="bench.settings")
    per_second: dict[str, list[float]] = {name: [] for name in PATHS}
    with ExitStack() as stack:
        ours = stack.enter_context(_server(url, "bench.settings"))
        plain = stack.enter_context(_server(url, "bench.plain.settings"))
        ports = {OURS: ours.port, CURSOR: plain.port, OFFSET: plain.port}
        for number in range(1 + ROUNDS):
            for name, path in PATHS.items():
                request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Token {token}\r\n\r\n".encode()
                count = requests_per_round
                seconds = uvloop.run(load.call(ports[name], [request] * count, PROCESSES * THREADS))
                if number:  # The first round warms up.
                    per_second[name].append(count / seconds)
        memory = {OURS: ours.peak_memory_mb(), "ModelSerializer": plain.peak_memory_mb()}
    median = {name: statistics.median(rounds) for name, rounds in per_second.items()}
    return {
        "requests_per_second": median,
        "rounds": per_second,
        "times": {name: median[OURS] / median[name] for name in (CURSOR, OFFSET)},
        "peak_memory_mb": memory,
    }


class _Server:
    def __init__(self, url: str, settings: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        options = f"--port {self.port} --processes {PROCESSES} --threads {THREADS}"
        environment = databases.environment(url, settings)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "project.web", *options.split()], cwd=databases.ROOT, env=environment
        )

    def wait(self) -> None:
        for _ in range(600):
            try:
                requests.get(f"http://127.0.0.1:{self.port}/admin/login/", timeout=10)
            except requests.RequestException:
                if self.process.poll() is not None:
                    break
                time.sleep(0.1)
            else:
                return
        raise SystemExit("The web server did not start.")

    def peak_memory_mb(self) -> float:
        """The peak memory of all its processes together."""
        own = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        status = [Path(f"/proc/{pid}/status").read_text() for pid in (self.process.pid, *own)]
        return sum(int(text.partition("VmHWM:")[2].split()[0]) for text in status) / 1024

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


@contextmanager
def _server(url: str, settings: str) -> Iterator[_Server]:
    server = _Server(url, settings)
    try:
        server.wait()
        yield server
    finally:
        server.stop()
