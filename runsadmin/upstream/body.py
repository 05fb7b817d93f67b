"""Reads the body of a response, up to the allowed size, and determines its encoding."""

import codecs
import json
import re
from functools import lru_cache

import requests

from runsadmin import conf
from runsadmin.ids import is_id

BLOCK_SIZE = 65536

_FIRST_ITEM = re.compile(r'"data"\s*:\s*\[\s*\{')
_NEXT_MEMBER = re.compile(r'[\s,]*(?=")')
_CHARSET = re.compile(r"charset\s*=\s*[\"']?\s*([\w.:+-]{1,40})", re.IGNORECASE)
# Codecs for domain names and source code, some of which take quadratic time, and variants and subsets of UTF-8.
_READ_AS_UTF_8 = {"idna", "punycode", "unicode_escape", "raw_unicode_escape", "ascii", "utf-8-sig"}
_COLON = re.compile(r"\s*:\s*")


class Oversized(Exception):
    """A body that is larger than allowed. `size` is None if the server does not announce it."""

    def __init__(self, response: requests.Response, size: int | None, beginning: bytes) -> None:
        super().__init__()
        self.response = response
        self.size = size
        self.beginning = beginning


def read_content(response: requests.Response) -> bytes:
    """The body. For an error response, whatever can be read of it is enough: the status decides."""
    content = bytearray()
    try:
        _read(response, content)
    except (requests.RequestException, Oversized):
        if 200 <= response.status_code < 300:
            raise
    return bytes(content)


def _read(response: requests.Response, content: bytearray) -> None:
    """Raises Oversized if the body is, or is announced to be, larger than allowed. Does not read the rest."""
    limit = conf.max_response_bytes()
    header = response.headers.get("Content-Length", "")
    announced = int(header) if re.fullmatch("[0-9]{1,18}", header) else None
    for chunk in response.iter_content(BLOCK_SIZE):
        content += chunk
        if len(content) > limit or (announced is not None and announced > limit):
            raise Oversized(response, announced, bytes(content[:BLOCK_SIZE]))


def first_id(beginning: bytes) -> str:
    """The id of the first item of a list, from the beginning of the list's JSON. Empty if the id is not in it."""
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


@lru_cache(maxsize=64)
def charset_of(content_type: str) -> str:
    """The encoding that the Content-Type names. UTF-8 if it names none or an unknown one."""
    named = _CHARSET.search(content_type)
    try:
        name = codecs.lookup(named[1]).name if named else "utf-8"
        b"{}".decode(name)  # Python also has bytes-to-bytes codecs, which raise LookupError here.
    except UnicodeDecodeError:  # A text encoding in which these two bytes are invalid, such as UTF-32.
        pass
    except (LookupError, ValueError):
        return "utf-8"
    return "utf-8" if name in _READ_AS_UTF_8 else name
