"""Times as servers write them: ISO 8601, or the time since 1970 as a number or as a number in text.

The documented unit is the second. Milliseconds, microseconds and nanoseconds are recognized by their magnitude: no
number is plausible in two of these units. A number that is plausible in none is unknown, rather than a wrong guess.
"""

import datetime as dt
import re
from typing import TypeGuard

from runsadmin.upstream import numbers

_EPOCH = dt.datetime.fromtimestamp(0, dt.UTC)
# In seconds this is the year 5138, so larger numbers are in another unit.
_SECONDS_BELOW = 100_000_000_000
_PER_SECOND = (1_000, 1_000_000, 1_000_000_000)
# The plausible range in the other units. Ticks since another year than 1970 are outside of it.
_EARLIEST = dt.datetime(2000, 1, 1, tzinfo=dt.UTC).timestamp()
_LATEST = dt.datetime(2200, 1, 1, tzinfo=dt.UTC).timestamp()
_COMPACT_DATE = re.compile(r"(19|20|21)[0-9]{6}")


def read(value: object) -> dt.datetime | None:
    """None for anything that is not a time since 1970."""
    if is_documented(value):
        return dt.datetime.fromtimestamp(value, dt.UTC)
    if isinstance(value, str):
        text = value.strip()
        number = None if _COMPACT_DATE.fullmatch(text) else numbers.read(text)
        return _of_text(text) if number is None else _of_number(number)
    number = numbers.read(value)
    return None if number is None else _of_number(number)


def is_documented(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 < value < _SECONDS_BELOW


def is_readable(value: object, *, or_unset: bool = False) -> bool:
    """With `or_unset`, zero and empty count as null, for servers without nulls."""
    return (or_unset and value in (0, "", False)) or read(value) is not None


def _of_number(number: float) -> dt.datetime | None:
    if number < _SECONDS_BELOW:
        seconds: float | None = number
    else:
        scaled = (number / each for each in _PER_SECOND)
        seconds = next((seconds for seconds in scaled if _EARLIEST <= seconds < _LATEST), None)
    if seconds is None or seconds < 1:
        return None
    return _EPOCH + dt.timedelta(microseconds=round(seconds * 1_000_000))


def _of_text(text: str) -> dt.datetime | None:
    """ISO 8601. UTC if it has no zone."""
    try:
        time = dt.datetime.fromisoformat(text.upper().removesuffix(" UTC"))
        time = time.replace(tzinfo=dt.UTC) if time.tzinfo is None else time.astimezone(dt.UTC)
    except (ValueError, OverflowError):
        return None
    return time if time > _EPOCH and time.timestamp() < _SECONDS_BELOW else None
