"""Clients that send or read a byte now and then, and the longest times of other requests meanwhile."""

import itertools
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import requests

from loadtests.environment import Environment
from loadtests.processes import Web, free_port
from loadtests.report import Counts
from tests import proxies

# In seconds.
LIMITS = {"livez": 1.0, "patch": 3.0, "list": 2.0}


class Kind(NamedTuple):
    first: bytes
    then: bytes = b""  # Sent again and again.
    reads: bool = False  # Whether it reads its responses, a few bytes at a time.


def kinds(run_id: str, token: str) -> list[Kind]:
    """Slow heads, bodies, chunked bodies (of two requests), reads, and idle connections."""
    host, as_alice = b"Host: localhost\r\n", f"Authorization: Token {token}\r\n".encode()
    login = b"Cookie: csrftoken=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    chunked = host + as_alice + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{ \r\n"
    return [
        Kind(b"GET /livez HTTP/1.1\r\n" + host, b"X: y\r\n"),
        Kind(b"POST /admin/login/ HTTP/1.1\r\n" + host + login + b"Content-Length: 1000\r\n\r\nab", b"c"),
        Kind(b"POST /livez HTTP/1.1\r\n" + chunked, b"1\r\n \r\n"),
        Kind(b"GET /api/v1/runs/?page_size=500 HTTP/1.1\r\n" + host + as_alice + b"\r\n", reads=True),
        Kind(b"GET /livez HTTP/1.1\r\n" + host + b"\r\n"),
        Kind(f"PATCH /api/v1/runs/{run_id}/ HTTP/1.1\r\n".encode() + chunked, b"1\r\n \r\n"),
    ]


class SlowClient:
    """Connects again when the server has closed its connection."""

    def __init__(self, kind: Kind, address: tuple[str, int]) -> None:
        self.kind, self.address = kind, address
        self.socket: socket.socket | None = None
        self.connections = 0

    def step(self) -> None:
        try:
            if self.socket is None:
                self._connect()
            elif self.kind.then:
                self.socket.send(self.kind.then)
            elif self.kind.reads and not self.socket.recv(10):
                self.close()
        except BlockingIOError:
            pass
        except OSError:
            self.close()

    def _connect(self) -> None:
        self.connections += 1
        self.socket = socket.socket()
        if self.kind.reads:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.settimeout(5)
        self.socket.connect(self.address)
        self.socket.sendall(self.kind.first)
        self.socket.setblocking(False)

    def close(self) -> None:
        if self.socket is not None:
            self.socket.close()
            self.socket = None


@dataclass
class SlowClientsReport(Counts):
    clients: int = 0
    connections: int = 0
    requests: dict[str, int] = field(default_factory=dict)
    slowest_in_ms: dict[str, int] = field(default_factory=dict)
    no_request_that_failed: int = 0
    no_request_that_was_too_slow: int = 0


def run(environment: Environment, *, clients: int, seconds: float, proxy: str | None = None) -> SlowClientsReport:
    """With the name of a proxy, all clients use the site through it."""
    runs = environment.make_runs(500, per_thread=100)
    environment.overrides = {**environment.overrides, "RUNSADMIN_API_REQUESTS_PER_MINUTE": "0"}
    web, token = environment.web(processes=2, threads=4), environment.token()
    with _through(proxy, web, environment.folder) as origin:
        return _load(origin, [run.upstream_id for run in runs], token, clients=clients, seconds=seconds)


@contextmanager
def _through(proxy: str | None, web: Web, folder: Path) -> Iterator[str]:
    if proxy is None:
        yield web.url
        return
    port, web_port = free_port(), urlsplit(web.url).port or 0
    with proxies.running(proxy, folder / proxy, port=port, web_port=web_port):
        yield f"http://127.0.0.1:{port}"


def _load(origin: str, run_ids: list[str], token: str, *, clients: int, seconds: float) -> SlowClientsReport:
    address = ("127.0.0.1", urlsplit(origin).port or 0)
    repeated = itertools.cycle(kinds(run_ids[0], token))
    slow = [SlowClient(kind, address) for kind in itertools.islice(repeated, clients)]

    def patch(number: int) -> requests.Request:
        path = f"/api/v1/runs/{run_ids[1 + number % 499]}/"
        return requests.Request("PATCH", origin + path, json={"metadata": {"team": f"slow-{number}"}})

    calls: dict[str, Callable[[int], requests.Request]] = {
        "livez": lambda number: requests.Request("GET", f"{origin}/livez"),
        "list": lambda number: requests.Request("GET", f"{origin}/api/v1/runs/?page_size=100"),
        "patch": patch,
    }
    with _stepping(slow), _timing(calls, token) as timed:
        time.sleep(seconds)
    return SlowClientsReport(
        clients=clients,
        connections=sum(client.connections for client in slow),
        requests=dict(Counter(name for name, _, _ in timed)),
        slowest_in_ms={name: round(1000 * max(took for n, took, _ in timed if n == name)) for name in calls},
        no_request_that_failed=sum(not ok for _, _, ok in timed),
        no_request_that_was_too_slow=sum(took > LIMITS[name] for name, took, _ in timed),
    )


@contextmanager
def _stepping(clients: list[SlowClient]) -> Iterator[None]:
    """Lets each client take its first step at once, and then about two steps a second."""
    stopped = threading.Event()

    def step() -> None:
        while not stopped.wait(0.5):
            for client in clients:
                client.step()

    for client in clients:
        client.step()
    thread = threading.Thread(target=step)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
        for client in clients:
            client.close()


@contextmanager
def _timing(calls: dict[str, Callable[[int], requests.Request]], token: str) -> Iterator[list[tuple[str, float, bool]]]:
    """Makes all calls ten times a second, each with a new connection. Yields the list of their times."""
    stopped, timed = threading.Event(), list[tuple[str, float, bool]]()

    def call(name: str) -> None:
        number = 0
        while not stopped.wait(0.1):
            number, began = number + 1, time.monotonic()
            with requests.Session() as session:
                session.trust_env = False
                session.headers["Authorization"] = f"Token {token}"
                try:
                    request = session.prepare_request(calls[name](number))
                    ok = session.send(request, timeout=10).status_code == 200
                except requests.RequestException:
                    ok = False
            timed.append((name, time.monotonic() - began, ok))

    threads = [threading.Thread(target=call, args=[name]) for name in calls]
    for thread in threads:
        thread.start()
    try:
        yield timed
    finally:
        stopped.set()
        for thread in threads:
            thread.join()
