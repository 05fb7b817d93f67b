"""One API call, from its request to its response."""

import asyncio
import secrets
import time
import traceback
from typing import Protocol

from sandbox import api, refusals
from sandbox.faults import Fault
from sandbox.messages import Request, Response
from sandbox.sandbox import Sandbox


class Channel(Protocol):
    """The connection, as far as an exchange uses it."""

    gone: asyncio.Event

    def write(self, data: bytes) -> None: ...

    def next(self) -> None: ...

    def close(self) -> None: ...


class Exchange:
    """A request and its response. A fault can change how the request is handled and what the client receives."""

    def __init__(self, sandbox: Sandbox, connection: Channel, request: Request) -> None:
        self.request = request
        self._connection = connection
        self._sandbox = sandbox
        self._received = time.time()
        self._request_id = "req_" + secrets.token_hex(16)
        self._entry = self._sandbox.log.receive(request, self._received, self._request_id)

    def begin(self) -> None:
        """Responds at once, or later if there is latency or a fault."""
        fault = self._sandbox.faults.take(self.request)
        if fault is None and not self._sandbox.settings.latency_ms:
            self.respond(self.handle())
        else:
            self._sandbox.spawn(self._handle_later(fault))

    async def _handle_later(self, fault: Fault | None) -> None:
        try:
            await asyncio.sleep(self._sandbox.settings.latency_ms / 1000)
            if fault is None:
                self.respond(self.handle())
            else:
                self._entry.fault = fault.kind
                await fault.run(self)
        except BaseException:
            self.cut()
            raise

    def handle(self) -> Response:
        """Handles the request as if there were no fault. Its changes are stored."""
        before = self._sandbox.store.changes
        try:
            response = api.handle(self._sandbox, self.request)
        except Exception:  # noqa: BLE001 - A bug must not end the server; it is printed to stderr.
            traceback.print_exc()
            response = refusals.server_error().response()
        self._entry.kept = self._sandbox.store.changes != before
        return response

    def respond(self, response: Response) -> None:
        """Sends the response and ends the exchange."""
        self.write(self.encode(response))
        self.finish()

    def encode(self, response: Response) -> bytes:
        """The bytes of a response. Faults may send only a part of them."""
        self._entry.status = response.status
        took = int((time.time() - self._received) * 1000)
        headers = f"openai-version: 2020-10-01\r\nopenai-processing-ms: {took}\r\nx-request-id: {self._request_id}\r\n"
        return response.encode(self.request.connection_header + headers, without_body=self.request.method == "HEAD")

    def write(self, data: bytes) -> None:
        self._connection.write(data)

    def finish(self) -> None:
        """Ends the exchange, so that the connection can handle its next request."""
        self._entry.received_at = time.time()
        self._connection.next()

    def cut(self) -> None:
        """Closes the connection once everything written is sent."""
        self._connection.close()

    async def gone(self) -> None:
        """Returns when the client has closed the connection."""
        await self._connection.gone.wait()
