"""The upper bound: sends the same POSTs as prepared bytes over keep-alive connections, and ignores the responses."""

import asyncio
import sys
import time

import uvloop


class _Caller(asyncio.Protocol):
    """One connection: sends each request as soon as the response to the previous one is complete."""

    def __init__(self, requests: list[bytes], done: asyncio.Future[None]) -> None:
        self.requests = iter(requests)
        self.done = done
        self.head = b""
        self.left = 0  # Bytes of the body that have not been received.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        if self.left:
            self.left -= len(data)
        else:
            head, separator, body = (self.head + data).partition(b"\r\n\r\n")
            if not separator:
                self.head = head
                return
            if b" 200 " not in head[:16]:
                self.transport.close()
                self.done.set_exception(OSError(head.decode()))
                return
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            self.head, self.left = b"", int(length) - len(body)
        if not self.left:
            self._next()

    def _next(self) -> None:
        request = next(self.requests, None)
        if request is None:
            self.transport.close()
            self.done.set_result(None)
        else:
            self.transport.write(request)  # type: ignore[attr-defined] # It is a WriteTransport.


def post_request(thread: str, run: str, body: bytes) -> bytes:
    head = (
        f"POST /v1/threads/{thread}/runs/{run} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer bench\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def call(port: int, requests: list[bytes], in_flight: int) -> float:
    """Sends the requests, and returns how many seconds they took."""
    loop = asyncio.get_running_loop()
    began = time.monotonic()
    waiting = []
    for number in range(in_flight):
        done: asyncio.Future[None] = loop.create_future()
        share = requests[number::in_flight]
        await loop.create_connection(lambda share=share, done=done: _Caller(share, done), "127.0.0.1", port)  # type: ignore[misc]
        waiting.append(done)
    await asyncio.gather(*waiting)
    return time.monotonic() - began


def main(port: str, threads: str, runs_per_thread: str, in_flight: str, edits: str) -> None:
    body = b'{"metadata":{"team":"red","env":"prod","ticket":"x"}}'
    pairs = [(f"thread_{t:06}", f"run_{t:06}_{r:04}") for t in range(int(threads)) for r in range(int(runs_per_thread))]
    requests = [post_request(thread, run, body) for thread, run in pairs[: int(edits)]]
    print(uvloop.run(call(int(port), requests, int(in_flight))))


if __name__ == "__main__":
    main(*sys.argv[1:])
