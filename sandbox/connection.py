"""HTTP/1.1 on one connection: requests are read ahead and handled one at a time."""

import asyncio
from collections import deque
from typing import cast

import httptools

from sandbox import control, refusals
from sandbox.exchange import Exchange
from sandbox.messages import Request
from sandbox.sandbox import Sandbox

READ_AHEAD = 16


class Connection(asyncio.Protocol):
    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.gone = asyncio.Event()
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Request] = deque()
        self._current: Request | None = None  # Being handled.
        self._advancing = False
        self._write_paused = False  # The client does not read its responses.
        self._read_paused = False  # Enough requests are read ahead.
        self._invalid = False  # Not HTTP: nothing more is read.

    # --- asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._waiting.clear()
        self.gone.set()

    def data_received(self, data: bytes) -> None:
        if self._invalid:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:  # Only HTTP/1.1 is supported: close after this request.
            self._waiting[-1].keep_alive = False
        except httptools.HttpParserError:
            self._invalid = True
        self._advance()

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        self._advance()

    # --- httptools calls these

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self._length = 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        for_control = self._url.startswith(control.PREFIX.encode())
        self._longest = control.MAX_BODY if for_control else refusals.MAX_BODY
        if self._headers.get("expect", "").lower() == "100-continue" and self._current is None and not self._waiting:
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Reads a body to its end even if it is too long, since a client that is still sending reads no refusal."""
        self._length += len(body)
        if self._length <= self._longest:
            self._body += body

    def on_message_complete(self) -> None:
        path, _, query_string = self._url.decode("latin-1").partition("?")
        self._waiting.append(
            Request(
                method=self._parser.get_method().decode(),
                path=path,
                query_string=query_string,
                headers=self._headers,
                body=bytes(self._body) if self._length <= self._longest else None,
                keep_alive=self._parser.should_keep_alive(),
                http_version=self._parser.get_http_version(),
            )
        )

    # --- one request at a time

    def _advance(self) -> None:
        if self._advancing:  # The loop below is already running, and continues with the next request.
            return
        self._advancing = True
        while self._waiting and self._current is None and not self._write_paused:
            self._current = self._waiting.popleft()
            self._begin(self._current)
        self._advancing = False
        if self._invalid and self._current is None and not self._waiting:
            self.write(refusals.not_http().response().encode("connection: close\r\n"))
            self.close()
        full = len(self._waiting) > READ_AHEAD
        if full != self._read_paused and not self._transport.is_closing():
            self._read_paused = full
            if full:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _begin(self, request: Request) -> None:
        if request.path.startswith(control.PREFIX):
            peer = self._transport.get_extra_info("peername")
            self.write(control.handle(self.sandbox, request, peer).encode(request.connection_header))
            self.next()
        else:
            Exchange(self.sandbox, self, request).begin()

    def write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    def next(self) -> None:
        """Ends the current request and continues with the next."""
        if self._current is not None and not self._current.keep_alive:
            self.close()
        self._current = None
        self._advance()

    def close(self) -> None:
        """Closes the connection once everything written is sent. Drops waiting requests."""
        self._waiting.clear()
        self._transport.close()
