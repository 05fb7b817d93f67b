"""A request as it was received, and the answer to it."""

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

import orjson

type Json = dict[str, Any]


@dataclass(slots=True)
class Request:
    """One whole request. `body` is None when it was longer than we read."""

    method: str
    path: str
    query_string: str
    headers: dict[str, str]
    body: bytes | None
    keep_alive: bool = True
    http_1_0: bool = False

    @property
    def parts(self) -> list[str]:
        """The path's segments, decoded: `/v1/threads/a%2Fb` is `["v1", "threads", "a/b"]`."""
        parts = self.path[1:].split("/")
        return [unquote(part) for part in parts] if "%" in self.path else parts

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self.query_string, keep_blank_values=True)) if self.query_string else {}


@dataclass(slots=True, frozen=True)
class Answer:
    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"

    @classmethod
    def json(cls, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> "Answer":
        return cls(status, orjson.dumps(value), headers or {})
