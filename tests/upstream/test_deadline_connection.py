"""What deadline_connection.py relies on in urllib3 and http.client. Tests fail if an upgrade breaks it."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
import requests

from runsadmin.upstream.deadline_connection import DeadlineAdapter, Exchange, TooLate

RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

type Serve = Callable[[Callable[[socket.socket], None]], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server that calls a function with each connection. Returns its address."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(handle: Callable[[socket.socket], None]) -> str:
        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, suppress(OSError):
                    handle(connection)

        threading.Thread(target=accept, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/path"

    yield serve
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def send(url: str, exchange: Exchange, adapter: DeadlineAdapter | None = None, **options: object) -> bytes:
    request = requests.Request("POST", url, data=b"body").prepare()
    with (adapter or DeadlineAdapter()).send_within(exchange, request, timeout=5, **options) as response:
        return response.content


def within(seconds: float) -> Exchange:
    return Exchange(time.monotonic() + seconds)


def test_head_and_body_are_sent_together(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time is checked before the only write to the socket."""
    received: list[bytes] = []

    def handle(connection: socket.socket) -> None:
        while data := connection.recv(65536):
            received.append(data)
            connection.sendall(RESPONSE)

    adapter, url = DeadlineAdapter(), serve(handle)
    for number in range(2):  # The second request reuses the connection.
        exchange = within(5)
        before = time.monotonic()
        assert send(url, exchange, adapter) == b"ok"
        assert before <= exchange.sent_at <= time.monotonic()
        assert len(received) == number + 1
        assert received[-1].startswith(b"POST /path HTTP/1.1\r\n")
        assert received[-1].endswith(b"\r\n\r\nbody")


def test_late_request_is_not_sent(serve: Serve) -> None:
    received: list[bytes] = []
    exchange = Exchange(time.monotonic() + 5, send_by=time.monotonic())
    with pytest.raises(TooLate):
        send(serve(lambda connection: received.append(connection.recv(65536))), exchange)
    assert exchange.sent_at == 0
    assert not any(received)


@pytest.mark.parametrize("beginning", [b"", RESPONSE[:-2]], ids=["head", "body"])
def test_slow_response_ends_at_deadline(serve: Serve, beginning: bytes) -> None:
    def handle(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(beginning)
        for byte in b"HTTP/1.1 200 OK" if not beginning else b"":
            connection.sendall(bytes([byte]))
            time.sleep(0.2)
        time.sleep(3)

    began = time.monotonic()
    with pytest.raises((requests.Timeout, requests.ConnectionError)):
        send(serve(handle), within(0.5))
    assert time.monotonic() - began < 2


def test_deadline_holds_through_a_proxy(serve: Serve) -> None:
    received: list[bytes] = []

    def handle(connection: socket.socket) -> None:
        received.append(connection.recv(65536))
        connection.sendall(RESPONSE)

    proxies = {"http": serve(handle)}
    exchange = within(5)
    assert send("http://upstream.invalid/path", exchange, proxies=proxies) == b"ok"
    assert exchange.sent_at > 0
    late = Exchange(time.monotonic() + 5, send_by=time.monotonic())
    with pytest.raises(TooLate):
        send("http://upstream.invalid/path", late, proxies=proxies)
    assert len([data for data in received if data]) == 1


def test_connect_is_not_the_request(serve: Serve) -> None:
    """A proxy accepts CONNECT but does not speak TLS, so the request itself is never sent."""

    def handle(connection: socket.socket) -> None:
        assert connection.recv(65536).startswith(b"CONNECT upstream.invalid:443")
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        connection.recv(65536)
        connection.sendall(b"no TLS here")

    exchange = within(5)
    with pytest.raises(requests.exceptions.RequestException):
        send("https://upstream.invalid/path", exchange, proxies={"https": serve(handle)}, verify=True)
    assert exchange.sent_at == 0
