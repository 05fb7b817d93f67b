"""One API call, and what becomes of it."""

import asyncio
import secrets
import time
import traceback
from typing import TYPE_CHECKING

from sandbox import api, refusals
from sandbox.faults import Fault
from sandbox.messages import Answer, Request

if TYPE_CHECKING:
    from sandbox.connection import Connection


class Exchange:
    """What faults have in their hands: they may let the request be handled, and decide what its sender gets to see."""

    def __init__(self, connection: "Connection", request: Request) -> None:
        self.request = request
        self._connection = connection
        self._sandbox = connection.sandbox
        self._received = time.time()
        self._request_id = "req_" + secrets.token_hex(16)
        self._entry = self._sandbox.log.receive(request, self._received, self._request_id)

    def begin(self) -> None:
        """Answers at once, or sees to it that this happens later."""
        fault = self._sandbox.faults.take(self.request)
        if fault is None and not self._sandbox.settings.latency_ms:
            self.response(self.handle())
        else:
            self._sandbox.let(self._go_on(fault))

    async def _go_on(self, fault: Fault | None) -> None:
        try:
            await asyncio.sleep(self._sandbox.settings.latency_ms / 1000)
            if fault is None:
                self.response(self.handle())
            else:
                self._entry.fault = fault.kind
                await fault.play(self)
        except BaseException:
            self.cut()
            raise

    def handle(self) -> Answer:
        """Does what the request asks for, as if nothing were wrong. What it changes is kept."""
        before = self._sandbox.store.changes
        try:
            response = api.handle(self._sandbox, self.request)
        except Exception:  # noqa: BLE001 - A mistake of ours must not end the server; it is told on stderr.
            traceback.print_exc()
            response = refusals.server_error().response()
        self._entry.kept = self._sandbox.store.changes != before
        return response

    def response(self, response: Answer) -> None:
        """Sends it, and that is that."""
        self.write(self.encode(response))
        self.finish()

    def encode(self, response: Answer) -> bytes:
        """The answer's head and body, for who sends only some of them."""
        self._entry.status = response.status
        took = int((time.time() - self._received) * 1000)
        headers = f"openai-version: 2020-10-01\r\nopenai-processing-ms: {took}\r\nx-request-id: {self._request_id}\r\n"
        return response.encode(self.request.connection_header + headers, without_body=self.request.method == "HEAD")

    def write(self, data: bytes) -> None:
        self._connection.write(data)

    def finish(self) -> None:
        """What was written is the whole answer: the connection is free for the next one."""
        self._entry.received_at = time.time()
        self._connection.next()

    def cut(self) -> None:
        """Closes the connection once what was written is out."""
        self._connection.close()

    async def gone(self) -> None:
        """Returns when the other side has closed the connection."""
        await self._connection.gone.wait()
