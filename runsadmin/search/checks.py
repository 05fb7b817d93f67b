"""Which tests a field permits. Each function raises ValueError with what is expected instead."""

import datetime as dt
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from runsadmin.search import values
from runsadmin.search.fields import KINDS, METADATA, Kind
from runsadmin.search.nodes import Between, Compare, Equal, Exists, Field, Prefix, Test

# Longer keys and values are indexed by their first characters.
MAX_VALUE_LENGTH = 512
_NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)  # Any time will do, since it does not affect validity.


def field(name: str, key: str | None) -> Field:
    if name == METADATA:
        if key is None:
            raise ValueError("a key is missing; expected metadata.KEY:…, such as metadata.team:search.")
        _check_length("a key", key)
    elif name not in KINDS:
        raise ValueError(
            f"there is no field {name!r}. Did you mean {_nearest(name)}? Expected {', '.join(KINDS)} or metadata.KEY."
            " A text that has a colon needs quotes."
        )
    return Field(name, key)


def _nearest(name: str) -> str:
    """The field that a user probably meant."""
    before_dot, _, key = name.partition(".")
    if key:
        return f"{METADATA}.{key if get_close_matches(before_dot.lower(), [METADATA]) else name}"
    nearest = get_close_matches(name.lower(), KINDS, n=1, cutoff=0.5)
    return nearest[0] if nearest else f"{METADATA}.{name}"


def check(field: Field, test: Test) -> None:
    match test:
        case Exists():
            return
        case Prefix(text):
            if field.kind is not Kind.TEXT:
                raise ValueError(
                    f"{field} is {field.kind.value}, and * is only for texts; expected a whole value, >, < or a range."
                )
            _check_length("a value", text)
        case Equal(value):
            _read(field.kind, value)
            if field.kind is Kind.TIME and values.is_moment(value):
                raise ValueError(f"no run is from exactly {value}; expected >{value}, <{value} or a range.")
            if value == "" and field.name != METADATA:
                raise ValueError(f"no {field} is empty; expected -{field}:* for the runs without one.")
        case Compare(_, value):
            _read(field.kind, value)
        case Between(low, high):
            _check_range(field.kind, low, high)


def _check_range(kind: Kind, low: str | None, high: str | None) -> None:
    if low is None and high is None:
        raise ValueError("this range is open at both ends; expected a value at one of them, or FIELD:* for any value.")
    ends = [_read(kind, end) for end in (low, high) if end is not None]
    if len(ends) == 2 and ends[0] > ends[1]:
        raise ValueError(f"this range is empty: {low!r} comes after {high!r}.")


def _read(kind: Kind, value: str) -> Any:
    return _READ[kind](value)


def _text(value: str) -> str:
    _check_length("a value", value)
    return value


def _time(value: str) -> dt.datetime:
    return values.span(value, dt.UTC, _NOW).begin


def _check_length(what: str, text: str) -> None:
    if len(text) > MAX_VALUE_LENGTH:
        raise ValueError(
            f"{what} is searched by its first {MAX_VALUE_LENGTH} characters; this one has {len(text):,}. Shorten it."
        )


_READ: dict[Kind, Callable[[str], Any]] = {
    Kind.TEXT: _text,
    Kind.TIME: _time,
    Kind.NUMBER: values.number,
    Kind.DURATION: values.duration,
}
