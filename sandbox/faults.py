"""The ways in which the sandbox can be told to fail.

Each kind is a function below: its few lines tell what it does with the exchange that it strikes, and its keyword
arguments are what can be said when the fault is made.
"""

import asyncio
import random
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from inspect import signature
from typing import TYPE_CHECKING, Any

from sandbox.messages import Answer, Json, Request
from sandbox.settings import check_type

if TYPE_CHECKING:
    from sandbox.exchange import Exchange

KINDS: dict[str, Callable[..., Awaitable[None]]] = {}


def kind[F: Callable[..., Awaitable[None]]](play: F) -> F:
    KINDS[play.__name__] = play
    return play


# --- it is handled later ------------------------------------------------------------------------------------------


@kind
async def delay(exchange: "Exchange", *, seconds: float) -> None:
    await asyncio.sleep(seconds)
    exchange.response(exchange.handle())


@kind
async def land_late(exchange: "Exchange", *, seconds: float) -> None:
    exchange.cut()
    await asyncio.sleep(seconds)
    exchange.handle()


# --- it is handled, and kept, but the answer does not come as it should -------------------------------------------


@kind
async def slow_answer(exchange: "Exchange", *, seconds: float) -> None:
    response = exchange.handle()
    await asyncio.sleep(seconds)
    exchange.response(response)


@kind
async def lose(exchange: "Exchange") -> None:
    exchange.handle()
    exchange.cut()


@kind
async def cut_while(exchange: "Exchange") -> None:
    data = exchange.encode(exchange.handle())
    exchange.write(data[: len(data) // 2])
    exchange.cut()


@kind
async def truncate(exchange: "Exchange") -> None:
    """The head is whole, and promises more of the body than there comes."""
    response = exchange.handle()
    data = exchange.encode(response)
    exchange.write(data[: len(data) - len(response.body) // 2])
    exchange.cut()


@kind
async def drip(exchange: "Exchange", *, seconds: float) -> None:
    """Byte by byte, head and body. No single wait is long enough for a read timeout to notice."""
    data = exchange.encode(exchange.handle())
    loop = asyncio.get_running_loop()
    start = loop.time()
    for sent in range(len(data)):
        early = start + seconds * sent / len(data) - loop.time()
        if early > 0.001:  # The event loop knows no shorter time.
            await asyncio.sleep(early)
        exchange.write(data[sent : sent + 1])
    exchange.finish()


# --- something else is answered; with `keep`, it is handled all the same -------------------------------------------


@kind
async def status(
    exchange: "Exchange",
    *,
    status: int = 500,
    headers: dict[str, Any] | None = None,
    body: Any = None,
    keep: bool = False,
) -> None:
    """A body that is a string is sent as it is, any other as JSON; without one it is an error as the upstream sends."""
    if body is None:
        message = f"The sandbox was told to answer {status}."
        body = {"error": {"message": message, "type": "server_error", "param": None, "code": None}}
    answer_instead(exchange, status, body, headers, keep=keep)


@kind
async def html(exchange: "Exchange", *, status: int = 502, keep: bool = False) -> None:
    page = f"<!DOCTYPE html><html><head><title>{status}</title></head><body><h1>Bad Gateway</h1></body></html>"
    answer_instead(exchange, status, page, {"content-type": "text/html; charset=utf-8"}, keep=keep)


@kind
async def garbage(exchange: "Exchange", *, keep: bool = False) -> None:
    answer_instead(exchange, 200, '{"id": "run_', {"content-type": "application/json"}, keep=keep)


@kind
async def other_shape(exchange: "Exchange", *, body: Any = None, keep: bool = False) -> None:
    answer_instead(exchange, 200, {"ok": True, "result": [1, 2, 3]} if body is None else body, keep=keep)


@kind
async def huge(exchange: "Exchange", *, bytes: int = 32 * 1024 * 1024, keep: bool = False) -> None:  # noqa: A002
    answer_instead(exchange, 200, {"padding": "x" * bytes}, keep=keep)


@kind
async def redirect(exchange: "Exchange", *, to: str) -> None:
    exchange.response(Answer(302, b"", {"location": to}))


def answer_instead(exchange: "Exchange", status: int, body: Any, headers: Json | None = None, *, keep: bool) -> None:
    if keep:
        exchange.handle()
    more = {name.lower(): str(value) for name, value in (headers or {}).items()}
    if isinstance(body, str):
        exchange.response(Answer(status, body.encode(), more, content_type=more.pop("content-type", "text/plain")))
    else:
        exchange.response(Answer.json(body, status, more))


# --- nothing is answered ------------------------------------------------------------------------------------------


@kind
async def cut_before(exchange: "Exchange") -> None:
    exchange.cut()


@kind
async def hang(exchange: "Exchange", *, keep: bool = False) -> None:
    if keep:
        exchange.handle()
    await exchange.gone()


# --- which fault strikes ------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Fault:
    """Strikes the next `times` requests (None: all from now on) of this method, with this pattern in their path."""

    kind: str
    times: int | None = 1
    probability: float = 1.0
    method: str | None = None
    path: str | None = None
    properties: Json = field(default_factory=dict)  # The keyword arguments of its kind.
    used: int = 0

    def strikes(self, request: Request) -> bool:
        return (
            (self.times is None or self.used < self.times)
            and self.method in (None, request.method)
            and (self.path is None or re.search(self.path, request.path) is not None)
            and random.random() < self.probability
        )

    def play(self, exchange: "Exchange") -> Awaitable[None]:
        return KINDS[self.kind](exchange, **self.properties)


COMMON = ("kind", "times", "probability", "method", "path")


def read_fault(given: Json) -> Fault:
    """ValueError, in words for the caller, where it makes no sense."""
    kind = given.get("kind")
    if kind not in KINDS:
        raise ValueError(f"There is no fault '{kind}'. There are: {', '.join(KINDS)}.")
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
    """In the order in which they were made: the first that strikes is the one that counts."""

    def __init__(self) -> None:
        self._faults: dict[str, Fault] = {}
        self._made = 0

    def add(self, fault: Fault) -> str:
        self._made += 1
        fault_id = str(self._made)
        self._faults[fault_id] = fault
        return fault_id

    def take(self, request: Request) -> Fault | None:
        """The fault that strikes this request. It is used up by one."""
        for fault in self._faults.values():
            if fault.strikes(request):
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
