"""The limits on what clients may cost, tested with an application that only shows what it received."""

import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from threading import Event, Thread
from typing import Any

import pytest

from project.web import channel, server
from project.web.server import Server
from tests.waiting import until

MEGABYTE = b"x" * 1_000_000


class Application:
    """Shows the forwarded headers and the size of the body. /stream is endless, and /wait waits for an event."""

    def __init__(self) -> None:
        self.streamed = 0  # In megabytes.
        self.is_closed, self.may_respond = Event(), Event()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/stream":
            start_response("200 OK", [])
            return self.stream()
        if environ["PATH_INFO"] == "/wait":
            self.may_respond.wait(30)
        headers = {name: value for name, value in environ.items() if name.startswith("HTTP_X_")}
        start_response("200 OK", [])
        return [f"{headers} {len(environ['wsgi.input'].read())} {environ.get('CONTENT_LENGTH')}".encode()]

    def stream(self) -> Iterator[bytes]:
        try:
            while True:
                yield MEGABYTE
                self.streamed += 1
        finally:
            self.is_closed.set()


class Running:
    def __init__(self) -> None:
        self.application = Application()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.server = Server(self.application, self.listener, threads=1, parent=os.getppid())
        self.thread = Thread(target=self.server.run)
        self.thread.start()
        self.clients: list[socket.socket] = []

    def connect(self, *sent: bytes) -> socket.socket:
        client = socket.create_connection(self.listener.getsockname(), timeout=10)
        self.clients.append(client)
        for part in sent:
            client.sendall(part)
        return client

    def get(self, path: str, *headers: str) -> bytes:
        lines = [f"GET {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
        return read(self.connect("\r\n".join([*lines, "", ""]).encode()))

    def stop(self) -> None:
        self.application.may_respond.set()
        self.server.stop()
        self.thread.join()
        for client in self.clients:
            client.close()
        self.server.asyncore.close_all(self.server._map)


def read(client: socket.socket) -> bytes:
    """What the server sends until it closes the connection."""
    received = b""
    with suppress(ConnectionResetError):
        while part := client.recv(65_536):
            received += part
    client.close()
    return received


@pytest.fixture
def running() -> Iterator[Running]:
    running = Running()
    yield running
    running.stop()


@pytest.mark.parametrize(
    ("limit", "part"),
    [
        ("HEAD_TIMEOUT", b"GET / HTTP/1.1\r\n"),
        ("BODY_TIMEOUT", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nab"),
        ("BODY_TIMEOUT", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"),
        ("KEEP_ALIVE", b""),
    ],
)
def test_late_client_is_closed(running: Running, monkeypatch: pytest.MonkeyPatch, limit: str, part: bytes) -> None:
    monkeypatch.setattr(channel, limit, 0.1)
    assert read(running.connect(part)) == b""


def test_slow_bodies_occupy_no_thread(running: Running) -> None:
    part = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 9\r\n\r\nab"
    clients = [running.connect(part) for _ in range(10)]
    assert b"200 OK" in running.get("/")
    clients[0].sendall(b"cdefghi")
    assert b" 9 9" in read(clients[0])


def test_oldest_connection_makes_room(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 3)
    slow = [running.connect(b"GET / HTTP/1.1\r\n")]
    until(lambda: len(running.server.active_channels) == 1)
    slow += [running.connect(b"GET / HTTP/1.1\r\n") for _ in range(2)]
    until(lambda: len(running.server.active_channels) == 3)

    assert b"200 OK" in running.get("/")
    assert read(slow[0]) == b""
    slow[2].sendall(b"Host: x\r\nConnection: close\r\n\r\n")
    assert b"200 OK" in read(slow[2])


def test_slow_reader_stops_the_stream(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running.server.adj, "outbuf_high_watermark", 20 * len(MEGABYTE))
    monkeypatch.setattr(channel, "READ_PERIOD", 2)
    running.connect(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
    assert running.application.is_closed.wait(15)
    # The buffers of the kernel also take some megabytes, besides the 20 of the server.
    assert running.application.streamed < 40
    assert b"200 OK" in running.get("/")


def test_slow_stream_gives_its_thread_to_others(running: Running) -> None:
    running.connect(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
    until(lambda: any(busy.thread_waits for busy in running.server.active_channels.values()))
    time.sleep(2 * server.CHECK_EVERY)
    assert not running.application.is_closed.is_set()  # It may keep its thread: nothing else needs it.
    assert b"200 OK" in running.get("/")
    assert running.application.is_closed.is_set()


def test_large_unread_responses_are_dropped(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_UNREAD", 10 * len(MEGABYTE))
    running.connect(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
    assert running.application.is_closed.wait(15)


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_probes_have_their_own_threads(running: Running, path: str) -> None:
    waiting = running.connect(b"GET /wait HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    until(lambda: any(busy.requests for busy in running.server.active_channels.values()))
    assert b"200 OK" in running.get(path)
    running.application.may_respond.set()
    assert b"200 OK" in read(waiting)


def test_request_in_flight_ends_after_a_stop(running: Running) -> None:
    waiting = running.connect(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
    idle = running.connect()
    until(lambda: len(running.server.active_channels) == 2)
    running.server.stop()
    assert read(idle) == b""
    running.application.may_respond.set()
    assert b"200 OK" in read(waiting)
    running.thread.join(5)
    assert not running.thread.is_alive()


def test_headers_with_underscores_are_dropped(running: Running) -> None:
    response = running.get("/", "X_Forwarded_For: 192.0.2.1", "X-Forwarded_For: 192.0.2.2", "X-Real-IP: 192.0.2.3")
    assert b"{'HTTP_X_REAL_IP': '192.0.2.3'}" in response


def test_repeated_headers_keep_their_order(running: Running) -> None:
    response = running.get("/", "X-Forwarded-For: 192.0.2.1", "x-forwarded-for: 192.0.2.2, 192.0.2.3")
    assert b"{'HTTP_X_FORWARDED_FOR': '192.0.2.1, 192.0.2.2, 192.0.2.3'}" in response


def test_long_content_length_is_refused(running: Running) -> None:
    assert b"400 Bad Request" in running.get("/", f"Content-Length: {'9' * 5000}")


@pytest.mark.parametrize("body", [b"", b"ab"])
def test_large_body_is_refused_by_its_length(running: Running, body: bytes) -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 99999999\r\n\r\n"
    response = read(running.connect(head + body))
    assert response.startswith(b"HTTP/1.1 200 OK")  # Without "100 Continue", which would ask for the body.
    assert b"Connection: close" in response
    assert response.endswith(b"{} 0 99999999")  # The application gets the length, and none of the body.


def test_long_line_between_chunks_is_refused(running: Running) -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2;"
    assert b"400 Bad Request" in read(running.connect(head + b"a" * 5000))


def test_server_stops_with_its_parent(running: Running) -> None:
    running.server.parent = -1
    running.thread.join(5)
    assert not running.thread.is_alive()


def test_client_may_pause_between_parts(running: Running) -> None:
    client = running.connect(
        b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n"
    )
    time.sleep(0.2)
    client.sendall(b"ab\r\n0\r\n\r\n")
    assert b" 2 2" in read(client)
