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
from typing import Any

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
place: ContextVar[AbstractContextManager[object] | None] = ContextVar("place", default=None)


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


class _BoundedResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self.fp = io.BufferedReader(_BoundedReader(sock))


class _Punctual(http.client.HTTPConnection):
    """Sends head and body in one piece, and looks at the clock right before."""

    _head: bytes | None = None
    _has_body = False

    def putrequest(self, *args: Any, **kwargs: Any) -> None:
        self._head, self._has_body = None, False
        super().putrequest(*args, **kwargs)

    def putheader(self, header: Any, *values: Any) -> None:
        self._has_body = self._has_body or (str(header).lower() == "content-length" and values != ("0",))
        super().putheader(header, *values)

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

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        """All requests of an adapter go to the same server in the same way: it need not be found out each time."""
        if self._pool is None:
            self._pool = super().get_connection_with_tls_context(*args, **kwargs)
        return self._pool
