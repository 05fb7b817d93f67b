"""A log of API requests, for tests to inspect."""

from collections import deque
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import orjson

from sandbox.messages import Json, Request

KEPT_ENTRIES = 100_000

# Other headers are not logged, because they may contain secrets.
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
# A shorter key could be a part of a word.
LONG_KEY = 8


@dataclass(slots=True)
class Entry:
    n: int
    at: float
    request: Request
    request_id: str
    received_at: float | None = None
    status: int | None = None  # None: no response yet, or none at all.
    fault: str | None = None
    kept: bool = False  # Whether its changes were stored.

    def to_json(self, key: str | None) -> Json:
        """The entry without the API key, wherever it occurs."""
        request = self.request
        headers = {name: request.headers[name] for name in KEPT_HEADERS if name in request.headers}
        scheme, space, _ = request.headers.get("authorization", "").partition(" ")
        if space and scheme.lower() in KEPT_SCHEMES:  # The key follows the scheme.
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
        return entry if key is None else mask_key(entry, request.body or b"", key)


def mask_key(entry: Json, body: bytes, key: str) -> Json:
    """Masks values that equal the API key, or contain it if it is long."""

    def shown(value: Any, text: str) -> Any:
        return HIDDEN if text == key or (len(key) >= LONG_KEY and key in text) else value

    return entry | {
        "path": shown(entry["path"], entry["path"]),
        "query": {name: shown(value, value) for name, value in entry["query"].items()},
        "headers": {name: shown(value, value) for name, value in entry["headers"].items()},
        "body": shown(entry["body"], body.decode(errors="replace")),
    }


def readable(body: bytes | None) -> Any:
    """The JSON value, the text if it is not JSON, or null if there was no body or it was too large."""
    if not body:
        return None
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return body.decode(errors="replace")
    return orjson.Fragment(body)


class Log:
    """The latest entries. Numbering continues after `clear`, so numbers are unique."""

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
