"""JSON text that survives what real servers send. What is stored and sent is always strict JSON.

orjson does the work. What it refuses goes through the standard library, which is slower and lets us decide for each
value: halves of surrogate pairs are kept, and what cannot be read (NaN, 1e400, an integer of 70 digits, a byte that
does not decode, a value that is nested too deeply) is null, in an object that says so.
"""

import json
import math
import re
from typing import Any

import orjson

# Deeper values cannot be written by orjson, and are more than a page can show.
MAX_DEPTH = 200

# What 64 bits hold. orjson rounds longer integers without a word.
_INTEGERS = range(-(2**63), 2**64)
_DIGITS = bytes.maketrans(b"0123456789-,[ \t\r\n", b"0" * 10 + b":" * 7)
_LONG = b":" + b"0" * 19
_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_NOT_DECODED = re.compile("[\udc80-\udcff]")
# No text from JSON holds this: a pair of escapes is read as one character.
_MARK = "\udbff\udfff"


class Damaged(dict[str, Any]):
    """An object with values that could not be read, in full or in part.

    `unreadable` has the names of their fields. Such a value, or such a part of it, is None.
    """

    unreadable: frozenset[str] = frozenset()


class _Unreadable:
    pass


_UNREADABLE = _Unreadable()


def read(content: bytes, encoding: str = "utf-8") -> Any:
    """A response, with `Damaged` objects where a value could not be read. Raises ValueError when it is not JSON."""
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


def loads(text: str | bytes) -> Any:
    """As `read`, of text that is ours already. Raises ValueError when this is not JSON."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        is_deep = "depth limit" in str(error)
        return read(text) if isinstance(text, bytes) else _tolerant(text, is_deep=is_deep)


def dumps(value: Any, *, sort_keys: bool = False) -> str:
    """The value as strict JSON that every database can store. What is nested too deeply is null."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS if sort_keys else None).decode()
    except orjson.JSONEncodeError as error:
        text = json.dumps(_strict(value), ensure_ascii=True, separators=(",", ":"), sort_keys=sort_keys)
        return _cut(text) if "ecursion" in str(error) else text


def is_kept_whole(value: Any) -> bool:
    """Whether `dumps` writes all of this value."""
    try:
        orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        return "ecursion" not in str(error)
    return True


def _has_long_integer(content: bytes) -> bool:
    """Whether an integer may be longer than 64 bits. Cheap, since every response is asked: it may say yes wrongly."""
    return _LONG in content.translate(_DIGITS)


def _tolerant(text: str, *, is_deep: bool) -> Any:
    if is_deep:
        text = _cut(text, f'"{_MARK}"')
    try:
        value, _ = _settled(_loads(text))
    except RecursionError:
        if is_deep:
            raise ValueError("The JSON is nested too deeply.") from None
        return _tolerant(text, is_deep=True)
    return value


def _loads(text: str) -> Any:
    return json.loads(
        text,
        strict=False,  # Some servers send line breaks in text as they are.
        object_pairs_hook=_object,
        parse_float=_float,
        parse_int=_int,
        parse_constant=lambda _: _UNREADABLE,
    )


def _float(digits: str) -> float | _Unreadable:
    value = float(digits)
    return value if math.isfinite(value) else _UNREADABLE


def _int(digits: str) -> int | _Unreadable:
    return value if len(digits) <= 20 and (value := int(digits)) in _INTEGERS else _UNREADABLE


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    unreadable = set()
    for name, given in pairs:
        value, is_readable = _settled(given)
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


def _settled(value: Any) -> tuple[Any, bool]:
    """The value without what could not be read, and whether there was nothing of the kind."""
    if value is _UNREADABLE or (isinstance(value, str) and _MARK in value):
        return None, False
    if isinstance(value, list):
        items = [_settled(item) for item in value]
        return [item for item, _ in items], all(is_readable for _, is_readable in items)
    return value, not isinstance(value, Damaged)


def _cut(text: str, instead: str = "null") -> str:
    """JSON text with values in place of what is nested too deeply."""
    parts: list[str] = []
    depth = start = 0
    for token in _TOKENS.finditer(text):
        if token[0] in "[{":
            depth += 1
            if depth == MAX_DEPTH + 1:
                parts += (text[start : token.start()], instead)
        elif token[0] in "]}":
            if depth == MAX_DEPTH + 1:
                start = token.end()
            depth -= 1
    parts.append(text[start:])
    return "".join(parts)


def _strict(value: Any) -> Any:
    """Without infinities and NaN, which are no JSON."""
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return json.loads(json.dumps(value), parse_constant=lambda _: None)
    return value
