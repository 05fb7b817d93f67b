"""HTTP/1.1 over asyncio: connections, the exchanges on them, and the loop that serves until it is told to stop."""

import asyncio
import secrets
import signal
import socket
import time
import traceback
from collections import deque
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import cast

import httptools

from runsadmin.sandbox import api, control, refusals
from runsadmin.sandbox.faults import KINDS, Fault
from runsadmin.sandbox.lifecycle import advance_runs
from runsadmin.sandbox.log import Entry
from runsadmin.sandbox.messages import Answer, Request
from runsadmin.sandbox.sandbox import Sandbox

PIPELINE = 64  # More requests than this are not read ahead.
REASONS = {status.value: status.phrase for status in HTTPStatus}


class Connection(asyncio.Protocol):
    """Reads requests and answers them one after the other, in the order they came."""

    def __init__(self, sandbox: Sandbox, connections: "set[Connection]") -> None:
        self.sandbox = sandbox
        self._all = connections
        self.peer = ""
        self.gone = asyncio.Event()
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Request] = deque()
        self._busy = False  # An exchange is under way.
        self._choked = False  # The other side does not read its answers.
        self._broken = False  # What came was not HTTP: nothing more is read.

    # --- asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.peer = transport.get_extra_info("peername")[0]
        self._all.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()
        self._waiting.clear()
        self._all.discard(self)

    def data_received(self, data: bytes) -> None:
        if self._broken:
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._broken = True
        self._advance()

    def pause_writing(self) -> None:
        self._choked = True

    def resume_writing(self) -> None:
        self._choked = False
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
        self._most = control.MAX_BODY if self._url.startswith(control.PREFIX.encode()) else refusals.MAX_BODY
        if self._headers.get("expect", "").lower() == "100-continue" and not self._busy and not self._waiting:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """The rest of a body that is too long is read and dropped, so that the refusal reaches whoever sent it."""
        self._length += len(body)
        if self._length <= self._most:
            self._body += body

    def on_message_complete(self) -> None:
        path, _, query = self._url.decode("latin-1").partition("?")
        self._waiting.append(
            Request(
                method=self._parser.get_method().decode(),
                path=path,
                query_string=query,
                headers=self._headers,
                body=bytes(self._body) if self._length <= self._most else None,
                keep_alive=self._parser.should_keep_alive(),
                http_1_0=self._parser.get_http_version() == "1.0",
            )
        )

    # --- one exchange after the other

    def _advance(self) -> None:
        while self._waiting and not self._busy and not self._choked:
            self._busy = True
            Exchange(self, self._waiting.popleft()).begin()
        if self._broken and not self._waiting and not self._busy:
            self._transport.write(encode(refusals.Refusal("This is not HTTP/1.1.").answer(), close=True))
            self._transport.close()
        if len(self._waiting) > PIPELINE:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    def next(self) -> None:
        """The exchange is over, and the connection goes on."""
        self._busy = False
        self._advance()

    def close(self) -> None:
        """Closes when all that was written is out; requests that still wait are dropped."""
        self._waiting.clear()
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()


class Exchange:
    """One request, and what becomes of it."""

    def __init__(self, connection: Connection, request: Request) -> None:
        self.request = request
        self._connection = connection
        self._sandbox = connection.sandbox
        self._received = time.time()
        self._request_id = "req_" + secrets.token_hex(16)
        self._entry: Entry | None = None  # None: a control call.

    def begin(self) -> None:
        if self.request.path.startswith(control.PREFIX):
            self.answer(self._safely(lambda: control.handle(self._sandbox, self.request, self._connection.peer)))
            return
        self._entry = self._sandbox.log.receive(self.request, self._received, self._request_id)
        fault = self._sandbox.faults.take(self.request)
        if fault is None and not self._sandbox.settings.latency_ms:
            self.answer(self.handle())
        else:
            self._entry.fault = fault.kind if fault is not None else None
            self._sandbox.play(self._play(fault))

    async def _play(self, fault: Fault | None) -> None:
        try:
            await asyncio.sleep(self._sandbox.settings.latency_ms / 1000)
            if fault is None:
                self.answer(self.handle())
            else:
                await KINDS[fault.kind].play(self, fault)
        except BaseException:
            self.cut()
            raise

    def handle(self) -> Answer:
        store = self._sandbox.store
        before = store.changes
        answer = self._safely(lambda: api.handle(self._sandbox, self.request))
        assert self._entry is not None
        self._entry.kept = store.changes != before
        return answer

    def _safely(self, handle: Callable[[], Answer]) -> Answer:
        try:
            return handle()
        except Exception:
            traceback.print_exc()
            return refusals.server_error().answer()

    def answer(self, answer: Answer) -> None:
        self.write(self.encode(answer))
        self.finish()

    def encode(self, answer: Answer) -> bytes:
        if self._entry is not None:
            self._entry.status = answer.status
            self._entry.answered_at = time.time()
        return encode(
            answer,
            close=not self.request.keep_alive,
            old=self.request.http_1_0,
            without_body=self.request.method == "HEAD",
            more=f"x-request-id: {self._request_id}\r\nopenai-processing-ms: {int((time.time() - self._received) * 1000)}\r\n",
        )

    def write(self, data: bytes) -> None:
        self._connection.write(data)

    def finish(self) -> None:
        """The answer is complete."""
        if self.request.keep_alive:
            self._connection.next()
        else:
            self._connection.close()

    def cut(self) -> None:
        self._connection.close()

    async def gone(self) -> None:
        await self._connection.gone.wait()


def encode(answer: Answer, *, close: bool = False, old: bool = False, without_body: bool = False, more: str = "") -> bytes:
    head = (
        f"HTTP/1.1 {answer.status} {REASONS.get(answer.status, 'Unknown')}\r\n"
        f"date: {http_date(int(time.time()))}\r\n"
        f"content-type: {answer.content_type}\r\n"
        f"content-length: {len(answer.body)}\r\n"
        f"openai-version: 2020-10-01\r\n{more}"
    )
    for name, value in answer.headers.items():
        head += f"{name}: {value}\r\n"
    if close:
        head += "connection: close\r\n"
    elif old:
        head += "connection: keep-alive\r\n"
    return head.encode("latin-1") + b"\r\n" + (b"" if without_body else answer.body)


def http_date(now: int, _last: list[tuple[int, str]] = [(0, "")]) -> str:  # noqa: B006
    if _last[0][0] != now:
        _last[0] = now, formatdate(now, usegmt=True)
    return _last[0][1]


def listen(host: str, port: int) -> socket.socket:
    """A socket that is bound, so that a taken port is known before anything else is done. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=1024)


async def serve(sandbox: Sandbox, listening: socket.socket) -> None:
    """Answers until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    connections: set[Connection] = set()
    server = await loop.create_server(lambda: Connection(sandbox, connections), sock=listening, backlog=1024)
    moving = loop.create_task(advance_runs(sandbox))
    host, port = listening.getsockname()[:2]
    print(f"sandbox listening on http://{f'[{host}]' if ':' in host else host}:{port}/v1", flush=True)
    await stop.wait()
    server.close()
    moving.cancel()
    for connection in connections:
        connection.abort()
