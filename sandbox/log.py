"""What the API was asked, for tests to look at."""

from collections import deque
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import orjson

from sandbox.messages import Json, Request

KEPT_ENTRIES = 100_000

# No other header is kept: one of them may be a secret.
KEPT_HEADERS = (
    "accept",
    "content-type",
    "openai-beta",
    "openai-organization",
    "openai-project",
    "user-agent",
    "x-request-id",
)


KEPT_SCHEMES = ("bearer", "basic")
HIDDEN = "[the API key]"
# A shorter one may well be part of a word.
LONG_KEY = 8


@dataclass(slots=True)
class Entry:
    n: int
    at: float
    request: Request
    request_id: str
    received_at: float | None = None
    status: int | None = None  # None: no answer yet, or never.
    fault: str | None = None
    kept: bool = False

    def to_json(self, key: str | None) -> Json:
        """Without the API key, wherever its sender has put it."""
        request = self.request
        headers = {name: request.headers[name] for name in KEPT_HEADERS if name in request.headers}
        scheme, space, _ = request.headers.get("authorization", "").partition(" ")
        if space and scheme.lower() in KEPT_SCHEMES:  # The key is what follows it.
            headers["authorization"] = scheme
        entry = {
            "n": self.n,
            "at": self.at,
            "received_at": self.received_at,
            "method": request.method,
            "path": request.path,
            "query": request.query,
            "headers": headers,
            "body": readable(request.body),
            "status": self.status,
            "request_id": self.request_id,
            "fault": self.fault,
            "kept": self.kept,
        }
        return entry if key is None else hidden(entry, request.body or b"", key)


def hidden(entry: Json, body: bytes, key: str) -> Json:
    """A value that is the key, or that a long key is part of, is left out."""

    def shown(value: Any, text: str) -> Any:
        return HIDDEN if text == key or (len(key) >= LONG_KEY and key in text) else value

    return entry | {
        "path": shown(entry["path"], entry["path"]),
        "query": {name: shown(value, value) for name, value in entry["query"].items()},
        "headers": {name: shown(value, value) for name, value in entry["headers"].items()},
        "body": shown(entry["body"], body.decode(errors="replace")),
    }


def readable(body: bytes | None) -> Any:
    """The JSON value, the text where it is not JSON, null where there was none (or too much of it)."""
    if not body:
        return None
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return body.decode(errors="replace")
    return orjson.Fragment(body)


class Log:
    """The latest entries. Their numbers go on when it is cleared: one never means two."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=KEPT_ENTRIES)
        self.last = 0

    def receive(self, request: Request, at: float, request_id: str) -> Entry:
        self.last += 1
        entry = Entry(self.last, at, request, request_id)
        self._entries.append(entry)
        return entry

    def after(self, n: int, *, key: str | None = None) -> list[Json]:
        newer = takewhile(lambda entry: entry.n > n, reversed(self._entries))
        return [entry.to_json(key) for entry in newer][::-1]

    def clear(self) -> None:
        self._entries.clear()
