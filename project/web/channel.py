"""The connection of one client. waitress receives requests and sends responses without a thread of the application."""

import socket
import time
from contextlib import suppress
from typing import Any

from waitress.buffers import ReadOnlyFileBasedBuffer
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.utilities import BadRequest

from project.body_limits import max_body_size

# In bytes. Each time a part of a line arrives, the whole line so far is searched for its end.
MAX_CHUNK_LINE = 4096
# In seconds, from the first byte of a request to the end of its head, and to the end of its body.
HEAD_TIMEOUT, BODY_TIMEOUT = 10, 60
# In seconds: how long a connection may be idle.
KEEP_ALIVE = 75
# A client must read this many bytes of its response in this many seconds.
MIN_READ, READ_PERIOD = 65_536, 20
# In seconds: how long a request that had begun to arrive at SIGTERM is awaited.
ARRIVAL = 1
# In seconds: how long the rest of a refused body is received. Closing at once could destroy the response on its way.
LINGER = 5


class Request(HTTPRequestParser):  # type: ignore[misc] # The package has no types.
    """Receives no more of a body than is allowed. project.middleware.BoundedBodyMiddleware then refuses it."""

    is_refused = False

    def __init__(self, adj: Any) -> None:
        super().__init__(adj)
        self.began = time.monotonic()

    def received(self, data: bytes) -> int:
        consumed: int = super().received(data)
        if self.body_rcv is not None and not self.error:
            self._check_body()
        return consumed

    def _check_body(self) -> None:
        # Of a chunked body, the lines between the chunks count as well.
        size = max(self.content_length, self.body_bytes_received)
        if size > max_body_size(self.path):
            self.completed = self.is_refused = True
            self.expect_continue = False
            self.headers |= {"CONTENT_LENGTH": str(size), "CONNECTION": "close"}
        elif self.chunked and len(self.body_rcv.control_line) + len(self.body_rcv.trailer) > MAX_CHUNK_LINE:
            self.completed, self.error = True, BadRequest("A line of the chunked body is too long")

    def parse_header(self, header_plus: bytes) -> None:
        try:
            super().parse_header(header_plus)
        except ValueError as error:  # Python parses no numbers with thousands of digits.
            raise ParsingError("Content-Length is invalid") from error

    @property
    def is_late(self) -> bool:
        return time.monotonic() - self.began > (BODY_TIMEOUT if self.headers_finished else HEAD_TIMEOUT)


class Channel(HTTPChannel):  # type: ignore[misc]
    parser_class = Request

    close_when_flushed: bool

    def __init__(self, *args: Any, **options: Any) -> None:
        self.idle_since = self.period_began = time.monotonic()
        self.sent = self.sent_before = 0  # In bytes: in all, and before the current period.
        self.lingers, self.linger_until = False, 0.0
        super().__init__(*args, **options)

    @property
    def waits_since(self) -> float:
        """Since when this connection has waited for its client."""
        return self.request.began if self.request else self.idle_since

    @property
    def unread(self) -> int:
        """The bytes of responses that wait for the client, without files, which are read piece by piece."""
        return sum(len(buffer) for buffer in self.outbufs if not isinstance(buffer, ReadOnlyFileBasedBuffer))

    @property
    def thread_waits(self) -> bool:
        """Whether a thread waits until the client has read more of a streamed response."""
        return bool(self.requests and self.unread > self.adj.outbuf_high_watermark)

    @property
    def read_rate(self) -> float:
        """In bytes per second, of the current period."""
        return (self.sent - self.sent_before) / max(1.0, time.monotonic() - self.period_began)

    @property
    def is_busy(self) -> bool:
        """Whether a request is in flight, or has just begun to arrive."""
        is_arriving = self.request is not None and time.monotonic() - self.request.began < ARRIVAL
        return bool(self.requests or self.total_outbufs_len or is_arriving)

    @property
    def is_too_slow(self) -> bool:
        """Must be called regularly."""
        now = time.monotonic()
        if self.total_outbufs_len:
            return self._reads_too_slowly(now)
        self.period_began, self.sent_before = now, self.sent
        if self.linger_until:
            return now > self.linger_until
        if self.requests:
            return False
        return bool(self.request.is_late) if self.request else now - self.idle_since > KEEP_ALIVE

    def _reads_too_slowly(self, now: float) -> bool:
        if now - self.period_began < READ_PERIOD:
            return False
        is_slow = self.sent - self.sent_before < MIN_READ
        self.period_began, self.sent_before = now, self.sent
        return is_slow

    def write_soon(self, data: Any) -> int:
        """Sends to the socket directly, and buffers only the rest: copying a page of runs takes up to 1 ms."""
        sent = 0
        if isinstance(data, bytes) and self.connected and not self.total_outbufs_len:
            with self.outbuf_lock, suppress(OSError):  # After an error, nothing more is sent.
                sent = self.send(data, do_close=False)
        return sent if data and sent == len(data) else sent + int(super().write_soon(data[sent:] if sent else data))

    def send(self, data: bytes, do_close: bool = True) -> int:
        sent: int = super().send(data, do_close)
        self.sent += sent
        return sent

    def service(self) -> None:
        self.lingers = self.requests[0].is_refused
        super().service()
        self.idle_since = time.monotonic()

    def handle_write(self) -> None:
        if self.lingers and self.close_when_flushed and not self.total_outbufs_len:
            self.close_when_flushed = False
            self.linger_until = time.monotonic() + LINGER
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)
        super().handle_write()

    def received(self, data: bytes) -> bool:
        return not self.linger_until and bool(super().received(data))
