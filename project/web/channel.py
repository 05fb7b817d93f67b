"""One client's connection. waitress receives requests and sends responses without a thread of the application."""

import socket
import time
from contextlib import suppress
from typing import Any

from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError

from project.middleware import max_body_size

# In seconds, from the first byte of a request to the end of its head, and to the end of its body.
HEAD_TIMEOUT, BODY_TIMEOUT = 10, 60
# In seconds: how long a connection may be idle.
KEEP_ALIVE = 75
# A client that reads fewer bytes of a waiting response in this many seconds is too slow.
MIN_READ, READ_PERIOD = 65_536, 20
# In seconds: how long the rest of a refused body is received, since closing at once could destroy the response.
LINGER = 5


class Request(HTTPRequestParser):  # type: ignore[misc] # The package has no types.
    """Ends a body that is too large, so that project.middleware.BoundedBodyMiddleware refuses it."""

    def __init__(self, adj: Any) -> None:
        super().__init__(adj)
        self.began = time.monotonic()
        self.is_refused = False

    def received(self, data: bytes) -> int:
        consumed: int = super().received(data)
        if self.body_rcv and not self.error and self.size > max_body_size(self.path):
            self.completed = self.is_refused = True
            self.expect_continue = False
            self.headers |= {"CONTENT_LENGTH": str(self.size), "CONNECTION": "close"}
        return consumed

    @property
    def size(self) -> int:
        """The bytes of the body, or those of a chunked body so far, with what separates the chunks."""
        return max(self.content_length, self.body_bytes_received)

    def parse_header(self, header_plus: bytes) -> None:
        try:
            super().parse_header(header_plus)
        except ValueError as error:  # Python does not parse numbers with thousands of digits.
            raise ParsingError("Content-Length is invalid") from error

    @property
    def is_late(self) -> bool:
        limit = BODY_TIMEOUT if self.headers_finished else HEAD_TIMEOUT
        return time.monotonic() - self.began > limit


class Channel(HTTPChannel):  # type: ignore[misc]
    parser_class = Request

    def __init__(self, *args: Any, **options: Any) -> None:
        self.idle_since = self.read_since = time.monotonic()
        self.sent = self.sent_before = 0
        self.linger_until = 0.0
        super().__init__(*args, **options)

    @property
    def waits_since(self) -> float:
        """Since when this connection has waited for its client."""
        return self.request.began if self.request else self.idle_since

    @property
    def is_receiving(self) -> bool:
        return self.request is not None

    @property
    def is_too_slow(self) -> bool:
        now = time.monotonic()
        if self.linger_until:
            return now > self.linger_until
        if self.total_outbufs_len:
            return self._reads_too_slowly(now)
        self.read_since, self.sent_before = now, self.sent
        if self.requests:
            return False
        if self.request:
            return bool(self.request.is_late)
        return now - self.idle_since > KEEP_ALIVE

    def _reads_too_slowly(self, now: float) -> bool:
        if now - self.read_since < READ_PERIOD:
            return False
        is_slow = self.sent - self.sent_before < MIN_READ
        self.read_since, self.sent_before = now, self.sent
        return is_slow

    def send(self, data: bytes, do_close: bool = True) -> int:
        sent: int = super().send(data, do_close)
        self.sent += sent
        return sent

    def service(self) -> None:
        is_refused = getattr(self.requests[0], "is_refused", False)
        super().service()
        self.idle_since = time.monotonic()
        if is_refused:
            self.linger_until = self.idle_since + LINGER

    # --- Lingering: after a refused body, only the sending side is closed at first.

    def handle_write(self) -> None:
        if self.linger_until and self.close_when_flushed and not self.total_outbufs_len and not self.will_close:
            self.close_when_flushed = False
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)
        super().handle_write()

    def received(self, data: bytes) -> bool:
        return False if self.linger_until else bool(super().received(data))
