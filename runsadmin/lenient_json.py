"""JSON parsing that tolerates what real servers send. What is stored and sent is always strict JSON.

orjson parses nearly everything. What it rejects is parsed by the standard library, which is slower but lets us decide
per value: lone surrogates are kept; what cannot be read (NaN, 1e400, an integer of 70 digits, a byte that cannot be
decoded, a value that is nested too deeply) becomes null, in a `Damaged` object.
"""

import json
import math
import re
from typing import Any

import orjson

# orjson cannot write deeper values, and no page could show them.
MAX_DEPTH = 200

# The integers that fit in 64 bits. orjson silently rounds longer ones.
_INTEGERS = range(-(2**63), 2**64)
_DIGITS = bytes.maketrans(b"0123456789-,[ \t\r\n", b"0" * 10 + b":" * 7)
_LONG = b":" + b"0" * 19
_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_NOT_DECODED = re.compile("[\udc80-\udcff]")
# Decoded JSON text never contains this: an escaped surrogate pair is read as one character.
_MARK = "\udbff\udfff"


class Damaged(dict[str, Any]):
    """An object with values that could not be read completely.

    `unreadable` has the names of their fields. Such a value, or the part of it that could not be read, is None.
    """

    unreadable: frozenset[str] = frozenset()


_UNREADABLE = object()


def read(content: bytes, encoding: str = "utf-8") -> Any:
    """Parses a response. Objects with values that cannot be read are `Damaged`. Raises ValueError if it is not JSON."""
    is_deep = False
    if encoding == "utf-8":
        if not _has_long_integer(content):
            try:
                return orjson.loads(content)
            except orjson.JSONDecodeError as error:
                is_deep = "depth limit" in str(error)
        content = content.removeprefix(b"\xef\xbb\xbf")
    text = content.decode(encoding, errors="surrogateescape")
    return _tolerant(_NOT_DECODED.sub(_MARK, text).removeprefix("\ufeff"), is_deep=is_deep)


def loads(text: str) -> Any:
    """Like `read`, for text that is already decoded. Raises ValueError if it is not JSON."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return _tolerant(text, is_deep="depth limit" in str(error))


def dumps(value: Any, *, sort_keys: bool = False) -> str:
    """The value as strict JSON that every database can store. Values that are nested too deeply become null."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS if sort_keys else None).decode()
    except orjson.JSONEncodeError as error:
        strict = json.loads(json.dumps(value), parse_constant=lambda _: None)  # Infinities and NaN become null.
        text = json.dumps(strict, separators=(",", ":"), sort_keys=sort_keys)
        return _cut(text) if "ecursion" in str(error) else text


def is_kept_whole(value: Any) -> bool:
    """Whether `dumps` keeps all of this value."""
    try:
        orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        return "ecursion" not in str(error)
    return True


def _has_long_integer(content: bytes) -> bool:
    """Whether an integer may not fit in 64 bits. Runs for every response, so it is fast but has false positives."""
    return _LONG in content.translate(_DIGITS)


def _tolerant(text: str, *, is_deep: bool) -> Any:
    if is_deep:
        text = _cut(text, f'"{_MARK}"')
    try:
        value, _ = _without_unreadable(_loads(text))
    except RecursionError:
        if is_deep:
            raise ValueError("The JSON is nested too deeply.") from None
        return _tolerant(text, is_deep=True)
    return value


def _loads(text: str) -> Any:
    return json.loads(
        text,
        strict=False,  # Some servers do not escape line breaks in strings.
        object_pairs_hook=_object,
        parse_float=_float,
        parse_int=_int,
        parse_constant=lambda _: _UNREADABLE,
    )


def _float(digits: str) -> object:
    value = float(digits)
    return value if math.isfinite(value) else _UNREADABLE


def _int(digits: str) -> object:
    return value if len(digits) <= 20 and (value := int(digits)) in _INTEGERS else _UNREADABLE


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    unreadable = set()
    for name, parsed in pairs:
        value, is_readable = _without_unreadable(parsed)
        if _MARK in name:
            name, value, is_readable = name.replace(_MARK, "\ufffd"), None, False
        values[name] = value
        if not is_readable:
            unreadable.add(name)
    if not unreadable:
        return values
    damaged = Damaged(values)
    damaged.unreadable = frozenset(unreadable)
    return damaged


def _without_unreadable(value: Any) -> tuple[Any, bool]:
    """The value with null in place of what could not be read, and whether everything could be read."""
    if value is _UNREADABLE or (isinstance(value, str) and _MARK in value):
        return None, False
    if isinstance(value, list):
        items = [_without_unreadable(item) for item in value]
        return [item for item, _ in items], all(is_readable for _, is_readable in items)
    return value, not isinstance(value, Damaged)


def _cut(text: str, replacement: str = "null") -> str:
    """The JSON text with `replacement` in place of values that are nested too deeply."""
    parts: list[str] = []
    depth = start = 0
    for token in _TOKENS.finditer(text):
        if token[0] in "[{":
            depth += 1
            if depth == MAX_DEPTH + 1:
                parts += (text[start : token.start()], replacement)
        elif token[0] in "]}":
            if depth == MAX_DEPTH + 1:
                start = token.end()
            depth -= 1
    parts.append(text[start:])
    return "".join(parts)
