"""Reads the body of a response, up to the allowed size."""

import json
import re

import requests

from runsadmin import conf
from runsadmin.ids import is_id

BLOCK_SIZE = 65536

_FIRST_ITEM = re.compile(r'"data"\s*:\s*\[\s*\{')
_NEXT_MEMBER = re.compile(r'[\s,]*(?=")')
_COLON = re.compile(r"\s*:\s*")


class Oversized(Exception):
    """A body that is larger than allowed. `size` is None if the server does not announce it."""

    def __init__(self, size: int | None, beginning: bytes) -> None:
        super().__init__()
        self.size = size
        self.beginning = beginning


def read_content(response: requests.Response) -> bytes:
    """The body. For an error its beginning is enough, since the status is what matters."""
    content = bytearray()
    try:
        _read(response, content)
    except (requests.RequestException, Oversized):
        if 200 <= response.status_code < 300:
            raise
    return bytes(content)


def _read(response: requests.Response, content: bytearray) -> None:
    """Raises Oversized when it is larger than allowed, or announced to be, without reading the rest."""
    limit = conf.max_response_bytes()
    header = response.headers.get("Content-Length", "")
    announced = int(header) if re.fullmatch("[0-9]{1,18}", header) else None
    for chunk in response.iter_content(BLOCK_SIZE):
        content += chunk
        if len(content) > limit or (announced is not None and announced > limit):
            raise Oversized(announced, bytes(content[:BLOCK_SIZE]))


def first_id(beginning: bytes) -> str:
    """The id of the first item of a list whose beginning was read. Empty if the beginning does not show it."""
    text = beginning.decode(errors="ignore")
    item = _FIRST_ITEM.search(text)
    position = item.end() if item else len(text)
    read = json.JSONDecoder().raw_decode
    try:
        while member := _NEXT_MEMBER.match(text, position):
            name, position = read(text, member.end())
            value, position = read(text, _COLON.match(text, position).end())  # type: ignore[union-attr]
            if name == "id":
                return value if is_id(value) else ""
    except (ValueError, AttributeError):
        return ""
    return ""
