"""HTTP with a bound on the whole answer, and on when a request leaves.

The read timeout of `requests` starts anew with every byte: a server that drips could hold us for ever. Here one
deadline covers the answer from its first byte to its last, head included.

Its connect timeout does not cover all that may come before the first byte of a request: names are looked up and several
addresses tried one after the other, and the whole process may be stopped. What must not be sent late is held back here,
at the last moment before it goes to the system.
"""

import http.client
import io
import socket
import time
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any, cast

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

# time.monotonic() at which the answer under way must be whole.
deadline: ContextVar[float] = ContextVar("deadline")
# time.monotonic() from which on the request under way must not be sent any more.
send_by: ContextVar[float] = ContextVar("send_by", default=float("inf"))
# time.monotonic() when the request under way was sent.
sent: ContextVar[float] = ContextVar("sent")
# What a thread holds from the sending of a request to the end of its answer, where it is one of many.
slot: ContextVar[AbstractContextManager[object] | None] = ContextVar("place", default=None)


class TooLate(Exception):
    """Nothing was sent."""


class _BoundedReader(io.RawIOBase):
    """Reads a socket until the deadline. Holds the socket open as `makefile` does."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._deadline = deadline.get()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("The answer took too long.")
        timeout = self._sock.gettimeout()
        if timeout is None or timeout > left:  # Setting it is a call to the system.
            self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Bounded:
    """What a response takes for its socket: read until the deadline."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_BoundedReader(self._sock))


class _BoundedResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(cast(socket.socket, _Bounded(sock)), *args, **kwargs)


class _Punctual(http.client.HTTPConnection):
    """Sends head and body in one piece, and looks at the clock right before."""

    _head: bytes | None = None
    _has_body = False

    def request(self, method: str, url: str, body: Any = None, *args: Any, **kwargs: Any) -> None:
        self._head, self._has_body = None, body is not None
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
        if now >= send_by.get():
            raise TooLate
        sent.set(now)
        super().send(whole)


class _Connection(_Punctual, HTTPConnection):
    response_class = _BoundedResponse


class _SecureConnection(_Punctual, HTTPSConnection):
    response_class = _BoundedResponse


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class BoundedAdapter(HTTPAdapter):
    """Never retries by itself, and hands every answer a deadline."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
        self._pool: Any = None

    # All requests of an adapter go to the same server in the same way: it need not be found out each time.

    def request_url(self, request: PreparedRequest, proxies: Any) -> str:
        """The path, unless a proxy may want more."""
        if proxies:
            return super().request_url(request, proxies)
        return "/" + str(request.url).split("/", 3)[3]

    def build_response(self, req: PreparedRequest, resp: Any) -> Response:
        """Without cookies, of which we keep none."""
        response = Response()
        response.status_code, response.headers, response.raw = resp.status, resp.headers, resp
        return response

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        if self._pool is None:
            self._pool = super().get_connection_with_tls_context(*args, **kwargs)
        return self._pool
