"""The ways in which the sandbox can fail.

Each kind of fault is a function below, which responds to a matching request. Its keyword arguments are the properties
of a fault of this kind.
"""

import asyncio
import random
import re
from base64 import b64decode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from inspect import signature
from typing import Any, Protocol

from sandbox.messages import Json, Request, Response
from sandbox.settings import check_type


class Exchange(Protocol):
    """The parts of an exchange that faults use."""

    request: Request

    def handle(self) -> Response: ...

    def respond(self, response: Response) -> None: ...

    def encode(self, response: Response) -> bytes: ...

    def write(self, data: bytes) -> None: ...

    def finish(self) -> None: ...

    def cut(self) -> None: ...

    async def gone(self) -> None: ...


KINDS: dict[str, Callable[..., Awaitable[None]]] = {}


def kind[F: Callable[..., Awaitable[None]]](run: F) -> F:
    KINDS[run.__name__] = run
    return run


# --- handled later ------------------------------------------------------------------------------------------


@kind
async def delay(exchange: Exchange, *, seconds: float) -> None:
    await asyncio.sleep(seconds)
    exchange.respond(exchange.handle())


@kind
async def handle_late(exchange: Exchange, *, seconds: float) -> None:
    exchange.cut()
    await asyncio.sleep(seconds)
    exchange.handle()


# --- handled, but the response is lost, late or incomplete -------------------------------------------


@kind
async def slow_response(exchange: Exchange, *, seconds: float) -> None:
    response = exchange.handle()
    await asyncio.sleep(seconds)
    exchange.respond(response)


@kind
async def lose(exchange: Exchange) -> None:
    exchange.handle()
    exchange.cut()


@kind
async def cut_halfway(exchange: Exchange) -> None:
    data = exchange.encode(exchange.handle())
    exchange.write(data[: len(data) // 2])
    exchange.cut()


@kind
async def truncate(exchange: Exchange) -> None:
    """Sends the whole head, but less of the body than it announces."""
    response = exchange.handle()
    data = exchange.encode(response)
    exchange.write(data[: len(data) - len(response.body) // 2])
    exchange.cut()


@kind
async def drip(exchange: Exchange, *, seconds: float) -> None:
    """Sends byte by byte. No single pause is long enough for a read timeout."""
    data = exchange.encode(exchange.handle())
    loop = asyncio.get_running_loop()
    start = loop.time()
    for sent in range(len(data)):
        pause = start + seconds * sent / len(data) - loop.time()
        if pause > 0.001:  # The event loop cannot wait for less.
            await asyncio.sleep(pause)
        exchange.write(data[sent : sent + 1])
    exchange.finish()


# --- another response; with `keep`, the request is handled, too -------------------------------------------


@kind
async def status(
    exchange: Exchange,
    *,
    status: int = 500,
    headers: dict[str, Any] | None = None,
    body: Any = None,
    keep: bool = False,
) -> None:
    """Sends a string unchanged, and any other body as JSON. By default, sends an error in the API's format."""
    if body is None:
        message = f"The sandbox is set to respond with {status}."
        body = {"error": {"message": message, "type": "server_error", "param": None, "code": None}}
    respond_instead(exchange, status, body, headers, keep=keep)


@kind
async def html(exchange: Exchange, *, status: int = 502, keep: bool = False) -> None:
    page = f"<!DOCTYPE html><html><head><title>{status}</title></head><body><h1>Bad Gateway</h1></body></html>"
    respond_instead(exchange, status, page, {"content-type": "text/html; charset=utf-8"}, keep=keep)


@kind
async def garbage(exchange: Exchange, *, keep: bool = False) -> None:
    respond_instead(exchange, 200, '{"id": "run_', {"content-type": "application/json"}, keep=keep)


@kind
async def wrong_shape(exchange: Exchange, *, body: Any = None, keep: bool = False) -> None:
    respond_instead(exchange, 200, {"ok": True, "result": [1, 2, 3]} if body is None else body, keep=keep)


@kind
async def huge(exchange: Exchange, *, bytes: int = 32 * 1024 * 1024, keep: bool = False) -> None:  # noqa: A002
    respond_instead(exchange, 200, {"padding": "x" * bytes}, keep=keep)


@kind
async def raw(exchange: Exchange, *, base64: str, keep: bool = False) -> None:
    """Sends any bytes, for bodies that cannot be written as JSON."""
    if keep:
        exchange.handle()
    exchange.respond(Response(200, b64decode(base64)))


@kind
async def endless(exchange: Exchange) -> None:
    """A list of runs in which every page is full and followed by another one."""
    query = exchange.request.query
    start = int(query.get("after", "").removeprefix("run_endless_") or 0) + 1
    thread_id, limit = exchange.request.parts[2], int(query.get("limit", "20"))
    runs = [
        {
            "id": f"run_endless_{number:09}", "object": "thread.run", "thread_id": thread_id, "status": "completed",
            "created_at": 1_700_000_000 - number, "metadata": {}, "model": "gpt-4o", "assistant_id": "asst_endless",
        }
        for number in range(start, start + limit)
    ]  # fmt: skip
    page = {"object": "list", "data": runs, "first_id": runs[0]["id"], "last_id": runs[-1]["id"], "has_more": True}
    exchange.respond(Response.json(page))


@kind
async def redirect(exchange: Exchange, *, to: str) -> None:
    exchange.respond(Response(302, b"", {"location": to}))


def respond_instead(exchange: Exchange, status: int, body: Any, headers: Json | None = None, *, keep: bool) -> None:
    if keep:
        exchange.handle()
    sent = {name.lower(): str(value) for name, value in (headers or {}).items()}
    if isinstance(body, str):
        exchange.respond(Response(status, body.encode(), sent, content_type=sent.pop("content-type", "text/plain")))
    else:
        exchange.respond(Response.json(body, status, sent))


# --- no response ------------------------------------------------------------------------------------------


@kind
async def cut_before(exchange: Exchange) -> None:
    exchange.cut()


@kind
async def hang(exchange: Exchange, *, keep: bool = False) -> None:
    if keep:
        exchange.handle()
    await exchange.gone()


# --- choosing a fault ------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Fault:
    """Applies to the next `times` requests (None: all) that have this method and a path that matches this pattern."""

    kind: str
    times: int | None = 1
    probability: float = 1.0
    method: str | None = None
    path: str | None = None
    properties: Json = field(default_factory=dict)  # The keyword arguments of its kind.
    used: int = 0

    def matches(self, request: Request) -> bool:
        return (
            (self.times is None or self.used < self.times)
            and self.method in (None, request.method)
            and (self.path is None or re.search(self.path, request.path) is not None)
            and random.random() < self.probability
        )

    def run(self, exchange: Exchange) -> Awaitable[None]:
        return KINDS[self.kind](exchange, **self.properties)


COMMON = ("kind", "times", "probability", "method", "path")


def read_fault(given: Json) -> Fault:
    """Raises ValueError with a message for the client."""
    kind = given.get("kind")
    if kind not in KINDS:
        raise ValueError(f"There is no fault '{kind}'. Use one of: {', '.join(KINDS)}.")
    common = {name: given[name] for name in COMMON if name in given}
    properties = {name: given[name] for name in given if name not in COMMON}
    try:
        signature(KINDS[kind]).bind(None, **properties)
    except TypeError as error:
        raise ValueError(f"Fault '{kind}': {error}.") from None
    hints = Fault.__annotations__ | KINDS[kind].__annotations__
    for name, value in given.items():
        check_type(f"'{name}' of fault '{kind}'", value, hints[name])
    re.compile(common.get("path") or "")
    return Fault(**common, properties=properties)


class Faults:
    """Faults in the order in which they were added. The first that matches a request is used."""

    def __init__(self) -> None:
        self._faults: dict[str, Fault] = {}
        self._count = 0

    def add(self, fault: Fault) -> str:
        self._count += 1
        fault_id = str(self._count)
        self._faults[fault_id] = fault
        return fault_id

    def take(self, request: Request) -> Fault | None:
        """Returns the fault for this request, and counts its use."""
        for fault in self._faults.values():
            if fault.matches(request):
                fault.used += 1
                return fault
        return None

    def to_json(self) -> list[Json]:
        return [
            {"id": fault_id, **{name: getattr(fault, name) for name in COMMON}, **fault.properties, "used": fault.used}
            for fault_id, fault in self._faults.items()
        ]

    def remove(self, fault_id: str) -> bool:
        return self._faults.pop(fault_id, None) is not None

    def clear(self) -> None:
        self._faults.clear()
