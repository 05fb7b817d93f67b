"""A request as it was received, and a response."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, unquote

import orjson

type Json = dict[str, Any]

REASONS = {status.value: status.phrase for status in HTTPStatus}


@dataclass(slots=True)
class Request:
    """A complete request. `body` is None if it was too long."""

    method: str
    path: str
    query_string: str
    headers: dict[str, str]
    body: bytes | None
    keep_alive: bool
    http_version: str

    @property
    def parts(self) -> list[str]:
        """The path's segments, decoded: `/v1/threads/a%2Fb` is `["v1", "threads", "a/b"]`."""
        parts = self.path[1:].split("/")
        return [unquote(part) for part in parts] if "%" in self.path else parts

    @property
    def connection_header(self) -> str:
        """The response's Connection header, if it needs one."""
        if not self.keep_alive:
            return "connection: close\r\n"
        return "connection: keep-alive\r\n" if self.http_version == "1.0" else ""

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self.query_string, keep_blank_values=True)) if self.query_string else {}


@dataclass(slots=True, frozen=True)
class Response:
    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"

    @classmethod
    def json(cls, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> "Response":
        return cls(status, orjson.dumps(value), headers or {})

    def encode(self, headers: str, *, without_body: bool = False) -> bytes:
        """The bytes to send. `headers` are additional ones, each with its line ending."""
        body = b"" if self.status in (204, 304) else self.body  # These two never have a body.
        head = (
            f"HTTP/1.1 {self.status} {REASONS.get(self.status, 'Unknown')}\r\n"
            f"date: {http_date(int(time.time()))}\r\n"
            f"content-type: {self.content_type}\r\n"
            f"content-length: {len(body)}\r\n"
            f"{headers}"
        )
        for name, value in self.headers.items():
            head += f"{name}: {value}\r\n"
        return head.encode("latin-1") + b"\r\n" + (b"" if without_body else body)


@lru_cache(maxsize=1)
def http_date(second: int) -> str:
    return formatdate(second, usegmt=True)
