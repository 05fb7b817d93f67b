"""HTTP with a time limit on the whole response, and a latest time for sending the request.

The read timeout of `requests` restarts with every byte, so a slow server could block us forever. Here, one deadline
covers the response from the first byte of its head to the last byte of its body.

The connect timeout does not cover every delay before the first byte of a request: name servers may be slow, several
addresses are tried in turn, and the process may be suspended. A request that must not be sent late is therefore
checked here, at the last moment before it is handed to the operating system.

This is the only module that depends on the internals of urllib3 and http.client: `HTTPConnectionPool._get_conn` and
`ConnectionCls`, `HTTPConnection.send` and `response_class`, and that `HTTPResponse` reads from its `fp`.
"""

import http.client
import io
import socket
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection


@dataclass
class Exchange:
    """The time limits of one request, and when it was sent. Times are in time.monotonic()."""

    deadline: float  # The response must be complete by this time.
    send_by: float = float("inf")  # The request is sent by this time, or not at all.
    sent_at: float = 0.0  # 0 if the request was not sent.


class TooLate(Exception):
    """The request was not sent, because `send_by` had passed."""


class _DeadlineReader(io.RawIOBase):
    """Reads `raw`, the unbuffered file of a socket, until the deadline."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase, deadline: float) -> None:
        self._sock = sock
        self._raw = raw
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("The response took too long.")
        timeout = self._sock.gettimeout()
        if timeout is None or timeout > left:  # Set a timeout only if needed, since that may be a system call.
            self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _DeadlineResponse(http.client.HTTPResponse):
    def __init__(self, deadline: float, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_DeadlineReader(sock, self.fp.detach(), deadline))


class _Connection(HTTPConnection):
    """Checks the time, then sends the head and the body of the request in one piece."""

    exchange: Exchange
    _is_requesting = False  # False while a tunnel through a proxy is opened.
    _head: bytes | None = None
    _has_body = False

    def begin(self, exchange: Exchange) -> None:
        """Must be called before each request, and before a proxy tunnel is opened for the request."""
        self.exchange = exchange
        self._is_requesting = False
        self.response_class = partial(_DeadlineResponse, exchange.deadline)  # type: ignore[assignment]

    def request(self, method: str, url: str, body: Any = None, *args: Any, **kwargs: Any) -> None:
        self._is_requesting, self._head, self._has_body = True, None, body is not None
        super().request(method, url, body, *args, **kwargs)

    def send(self, data: Any) -> None:
        if self._has_body and self._head is None:
            self._head = data
            return
        whole = data if self._head is None else self._head + data
        self._head, self._has_body = None, False
        if self.sock is None:
            self.connect()
        now = time.monotonic()
        if now >= self.exchange.send_by:
            raise TooLate
        if self._is_requesting:
            self.exchange.sent_at = now
        super().send(whole)


class _SecureConnection(_Connection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    """The connections of one Python thread to one server. The thread makes one request at a time."""

    ConnectionCls = _Connection
    exchange: Exchange

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection: Any = super()._get_conn(timeout)
        connection.begin(self.exchange)
        return connection


class _SecurePool(_Pool, HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


_POOLS = {"http": _Pool, "https": _SecurePool}


class DeadlineAdapter(HTTPAdapter):
    """Enforces the time limits of each request, and never retries.

    It serves one Python thread and one server, so what all requests share is computed once.
    """

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS
        self._pool: Any = None

    def send_within(self, exchange: Exchange, request: PreparedRequest, **options: Any) -> Response:
        """Sends the request and reads only the head of the response. Raises TooLate, and whatever `requests` raises."""
        self._exchange = exchange
        return self.send(request, **options)

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        if self._pool is None:
            self._pool = super().get_connection_with_tls_context(*args, **kwargs)
        self._pool.exchange = self._exchange
        return self._pool

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def request_url(self, request: PreparedRequest, proxies: Any) -> str:
        """The path, or the whole URL if a proxy may need it."""
        if proxies:
            return super().request_url(request, proxies)
        return "/" + str(request.url).split("/", 3)[3]

    def build_response(self, req: PreparedRequest, resp: Any) -> Response:
        """Skips cookie handling: we keep no cookies."""
        response = Response()
        response.status_code, response.headers, response.raw = resp.status, resp.headers, resp
        return response
