"""The HTTP protocol, over raw sockets."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

from tests.sandbox_client import Sandbox, make_run

PATH = "/v1/threads/thread_a/runs/run_a"


class RawConnection:
    """A connection that sends bytes and reads whole responses."""

    def __init__(self, sandbox: Sandbox) -> None:
        address = urlsplit(sandbox.url)
        self.socket = socket.create_connection((address.hostname, address.port), timeout=5)
        self.reader = self.socket.makefile("rb")
        self.head = f"Host: {address.netloc}\r\nAuthorization: Bearer {sandbox.key}\r\n"

    def send(self, *lines: str, body: bytes = b"") -> None:
        """Sends a request with the usual headers."""
        first, *more = lines
        self.socket.sendall(
            "\r\n".join([first, self.head + "".join(f"{line}\r\n" for line in more)]).encode() + b"\r\n" + body
        )

    def post(self, body: bytes) -> None:
        self.send(f"POST {PATH} HTTP/1.1", f"Content-Length: {len(body)}", body=body)

    def response(self, *, has_body: bool = True) -> "ReceivedResponse":
        status = int(self.reader.readline().split()[1])
        lines = iter(self.reader.readline, b"\r\n")
        headers = {name: value for name, _, value in (line.decode().rstrip().partition(": ") for line in lines)}
        return ReceivedResponse(status, headers, self.reader.read(int(headers["content-length"])) if has_body else b"")

    def is_closed(self) -> bool:
        """Waits until the server closes the connection. False if it sends a byte instead."""
        return self.reader.read(1) == b""


class ReceivedResponse(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


@contextmanager
def connected(sandbox: Sandbox) -> Iterator[RawConnection]:
    raw = RawConnection(sandbox)
    try:
        yield raw
    finally:
        raw.reader.close()
        raw.socket.close()


@pytest.fixture
def raw(sandbox: Sandbox) -> Iterator[RawConnection]:
    sandbox.put_runs([make_run(id="run_a", thread_id="thread_a")])
    with connected(sandbox) as raw:
        yield raw


def test_connection_serves_many_requests(raw: RawConnection) -> None:
    for _ in range(5):
        raw.send(f"GET {PATH} HTTP/1.1")
        response = raw.response()
        assert response.status == 200
        assert b'"run_a"' in response.body
        assert response.headers["date"].endswith("GMT")


def test_request_may_come_in_pieces(raw: RawConnection) -> None:
    raw.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    body = '{"metadata": {"größe": "🙂"}}'.encode()
    whole = f"POST {PATH} HTTP/1.1\r\n{raw.head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    for start in range(0, len(whole), 3):
        raw.socket.sendall(whole[start : start + 3])
    assert '"größe":"🙂"' in raw.response().body.decode()


def test_request_may_be_chunked(raw: RawConnection) -> None:
    chunks = b'b\r\n{"metadata"\r\n8;name=x\r\n: {"a": \r\n5\r\n"b"}}\r\n0\r\n\r\n'
    raw.send(f"POST {PATH} HTTP/1.1", "Transfer-Encoding: chunked", body=chunks)
    response = raw.response()
    assert response.status == 200
    assert b'"metadata":{"a":"b"}' in response.body


def test_large_chunked_request_is_refused(raw: RawConnection) -> None:
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    raw.send(f"POST {PATH} HTTP/1.1", "Transfer-Encoding: chunked", body=chunk * 20 + b"0\r\n\r\n")
    assert raw.response().status == 413
    raw.send(f"GET {PATH} HTTP/1.1")
    assert raw.response().status == 200


def test_connection_close_is_honored(raw: RawConnection) -> None:
    raw.send(f"GET {PATH} HTTP/1.1", "Connection: close")
    response = raw.response()
    assert response.headers["connection"] == "close"
    assert raw.is_closed()


@pytest.mark.parametrize("nonsense", [b"hello\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00"])
def test_malformed_http_is_refused_and_closed(raw: RawConnection, nonsense: bytes) -> None:
    raw.socket.sendall(nonsense)
    assert raw.response().status == 400
    assert raw.is_closed()


def test_incomplete_request_is_not_handled(sandbox: Sandbox, raw: RawConnection) -> None:
    raw.send(f"POST {PATH} HTTP/1.1", "Content-Length: 100", body=b'{"metadata"')
    raw.socket.shutdown(socket.SHUT_WR)
    assert raw.is_closed()
    assert sandbox.log() == []
