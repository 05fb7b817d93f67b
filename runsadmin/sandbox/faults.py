"""The ways in which the sandbox can be told to fail.

A fault plays one exchange: it may let the request be handled (`exchange.handle()`, which keeps what it changes) and
decides what the other side sees of it. Those who want to know what a fault does read its few lines below.
"""

import asyncio
import random
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, get_type_hints

from runsadmin.sandbox.messages import Answer, Json, Request
from runsadmin.sandbox.settings import describe, fits


class Exchange(Protocol):
    """One request, and the connection that waits for its answer."""

    def handle(self) -> Answer:
        """Does what the request asks for, as if nothing were wrong."""

    def answer(self, answer: Answer) -> None:
        """Sends it whole."""

    def encode(self, answer: Answer) -> bytes:
        """The answer's bytes, head and body, for faults that send only some of them."""

    def write(self, data: bytes) -> None:
        """Sends bytes."""

    def finish(self) -> None:
        """What was written is the whole answer."""

    def cut(self) -> None:
        """Closes the connection once what was written is out."""

    async def gone(self) -> None:
        """Returns when the other side has closed the connection."""


@dataclass(slots=True, kw_only=True)
class Fault:
    """When it strikes, and what its kind needs to know. `times` null: for ever."""

    kind: str
    times: int | None = 1
    probability: float = 1.0
    method: str | None = None
    path: str | None = None  # A regular expression, searched for in the path.
    seconds: float = 1.0
    keep: bool = False
    status: int = 500
    headers: dict[str, Any] = field(default_factory=dict)
    body: Any = None
    to: str = ""
    bytes: int = 32 * 1024 * 1024
    id: str = ""
    used: int = 0

    def strikes(self, request: Request) -> bool:
        return (
            self.times != 0
            and (self.method is None or self.method == request.method)
            and (self.path is None or re.search(self.path, request.path) is not None)
            and (self.probability >= 1 or random.random() < self.probability)
        )

    def to_json(self) -> Json:
        common = ("id", "kind", "times", "used", "probability", "method", "path")
        return {name: getattr(self, name) for name in (*common, *sorted(KINDS[self.kind].knows))}


# --- before it is handled -----------------------------------------------------------------------------------------


async def delay(exchange: Exchange, fault: Fault) -> None:
    await asyncio.sleep(fault.seconds)
    exchange.answer(exchange.handle())


async def cut_before(exchange: Exchange, fault: Fault) -> None:
    exchange.cut()


async def land_late(exchange: Exchange, fault: Fault) -> None:
    exchange.cut()
    await asyncio.sleep(fault.seconds)
    exchange.handle()


# --- it is handled, and kept, but the answer does not come as it should -------------------------------------------


async def slow_answer(exchange: Exchange, fault: Fault) -> None:
    answer = exchange.handle()
    await asyncio.sleep(fault.seconds)
    exchange.answer(answer)


async def lose(exchange: Exchange, fault: Fault) -> None:
    exchange.handle()
    exchange.cut()


async def cut_while(exchange: Exchange, fault: Fault) -> None:
    data = exchange.encode(exchange.handle())
    exchange.write(data[: len(data) // 2])
    exchange.cut()


async def truncate(exchange: Exchange, fault: Fault) -> None:
    answer = exchange.handle()
    exchange.write(exchange.encode(answer)[: -(len(answer.body) // 2) or None])
    exchange.cut()


async def drip(exchange: Exchange, fault: Fault) -> None:
    data = exchange.encode(exchange.handle())
    loop = asyncio.get_running_loop()
    start = loop.time()
    for sent in range(len(data)):
        ahead = start + fault.seconds * sent / len(data) - loop.time()
        if ahead > 0.001:  # The clock of the event loop knows nothing shorter.
            await asyncio.sleep(ahead)
        exchange.write(data[sent : sent + 1])
    exchange.finish()


# --- something else is answered; with `keep` it is handled all the same -------------------------------------------


async def status(exchange: Exchange, fault: Fault) -> None:
    message = {"message": f"The sandbox was told to answer {fault.status}.", "type": "server_error"}
    body = fault.body if fault.body is not None else {"error": message | {"param": None, "code": None}}
    instead(exchange, fault, fault.status, body)


async def html(exchange: Exchange, fault: Fault) -> None:
    page = f"<!DOCTYPE html><html><head><title>{fault.status}</title></head><body><h1>Bad gateway</h1></body></html>"
    instead(exchange, fault, fault.status, page, "text/html; charset=utf-8")


async def garbage(exchange: Exchange, fault: Fault) -> None:
    instead(exchange, fault, 200, '{"id": "run_', "application/json")


async def other_shape(exchange: Exchange, fault: Fault) -> None:
    instead(exchange, fault, 200, fault.body if fault.body is not None else {"ok": True, "result": [1, 2, 3]})


async def huge(exchange: Exchange, fault: Fault) -> None:
    instead(exchange, fault, 200, {"padding": "x" * fault.bytes})


async def redirect(exchange: Exchange, fault: Fault) -> None:
    exchange.answer(Answer(302, b"", {"location": fault.to}))


async def hang(exchange: Exchange, fault: Fault) -> None:
    if fault.keep:
        exchange.handle()
    await exchange.gone()


def instead(exchange: Exchange, fault: Fault, status: int, body: Any, content_type: str = "text/plain") -> None:
    if fault.keep:
        exchange.handle()
    headers = {name.lower(): str(value) for name, value in fault.headers.items()}
    if isinstance(body, str):
        content_type = headers.pop("content-type", content_type)
        exchange.answer(Answer(status, body.encode(), headers, content_type))
    else:
        exchange.answer(Answer.json(body, status, headers))


# --- choosing -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kind:
    play: Callable[[Exchange, Fault], Awaitable[None]]
    knows: frozenset[str] = frozenset()  # The properties that mean something to it.
    defaults: Json = field(default_factory=dict)


def kind(play: Callable[[Exchange, Fault], Awaitable[None]], *knows: str, **defaults: Any) -> Kind:
    return Kind(play, frozenset(knows), defaults)


KINDS = {
    "delay": kind(delay, "seconds"),
    "cut_before": kind(cut_before),
    "land_late": kind(land_late, "seconds"),
    "slow_answer": kind(slow_answer, "seconds"),
    "lose": kind(lose),
    "cut_while": kind(cut_while),
    "truncate": kind(truncate),
    "drip": kind(drip, "seconds"),
    "status": kind(status, "status", "headers", "body", "keep"),
    "html": kind(html, "status", "keep", status=502),
    "garbage": kind(garbage, "keep"),
    "other_shape": kind(other_shape, "body", "keep"),
    "huge": kind(huge, "bytes", "keep"),
    "redirect": kind(redirect, "to"),
    "hang": kind(hang, "keep"),
}
COMMON = frozenset({"kind", "times", "probability", "method", "path"})


def read_fault(given: Json) -> Fault:
    """ValueError, with words for the caller, for a fault that makes no sense."""
    name = given.get("kind")
    if name not in KINDS:
        raise ValueError(f"Unknown kind of fault {name!r}. There are: {', '.join(KINDS)}.")
    hints = get_type_hints(Fault)
    for key, value in given.items():
        if key not in COMMON | KINDS[name].knows:
            raise ValueError(f"Fault '{name}' knows no '{key}'.")
        if hints[key] is not Any and not fits(value, hints[key]):
            raise ValueError(f"'{key}' of fault '{name}' cannot be {value!r}: expected {describe(hints[key])}.")
    fault = Fault(**(KINDS[name].defaults | given))
    if fault.path is not None:
        re.compile(fault.path)
    return fault


class Faults:
    """The faults that are set, in the order they were made."""

    def __init__(self) -> None:
        self._faults: dict[str, Fault] = {}
        self._made = 0

    def __bool__(self) -> bool:
        return bool(self._faults)

    def add(self, fault: Fault) -> str:
        self._made += 1
        fault.id = str(self._made)
        self._faults[fault.id] = fault
        return fault.id

    def take(self, request: Request) -> Fault | None:
        """The first that strikes here; it has one time less afterwards."""
        for fault in self._faults.values():
            if fault.strikes(request):
                fault.used += 1
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return None

    def to_json(self) -> list[Json]:
        return [fault.to_json() for fault in self._faults.values()]

    def remove(self, id: str) -> bool:
        return self._faults.pop(id, None) is not None

    def clear(self) -> None:
        self._faults.clear()
