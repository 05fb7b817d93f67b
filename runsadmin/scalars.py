"""Numbers and times as servers write them.

A number may be a JSON number or text. A time may be ISO 8601 text, or a number that counts from 1970. The documented
unit is the second. Milliseconds, microseconds and nanoseconds are recognized by their magnitude: no number is plausible
in two of these units. A number that is plausible in none is unknown, rather than a wrong guess.
"""

import datetime as dt
import math
import re

_NUMBER = re.compile(r"[+-]?[0-9]{1,40}(\.[0-9]{0,40})?([eE][+-]?[0-9]{1,3})?")
_EPOCH = dt.datetime.fromtimestamp(0, dt.UTC)
# In seconds this is the year 5138, so larger numbers are in another unit.
SECONDS_BELOW = 100_000_000_000
_PER_SECOND = (1_000, 1_000_000, 1_000_000_000)
# The plausible range in the other units. Numbers that count from a year other than 1970 are outside of it.
_EARLIEST = dt.datetime(2000, 1, 1, tzinfo=dt.UTC).timestamp()
_LATEST = dt.datetime(2200, 1, 1, tzinfo=dt.UTC).timestamp()
_COMPACT_DATE = re.compile(r"(19|20|21)[0-9]{6}")


def number(value: object) -> int | float | None:
    """None for anything that is not a number, including true and false."""
    if isinstance(value, str):
        match = _NUMBER.fullmatch(value.strip())
        if match is None:
            return None
        value = int(match[0]) if match[1] is None and match[2] is None else float(match[0])
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


def time(value: object) -> dt.datetime | None:
    """None for anything that is not a time since 1970."""
    if type(value) is int and 0 < value < SECONDS_BELOW:  # As documented.
        return dt.datetime.fromtimestamp(value, dt.UTC)
    if value is None:
        return None
    text = value.strip() if isinstance(value, str) else ""
    since_1970 = None if _COMPACT_DATE.fullmatch(text) else number(value)
    return _of_text(text) if since_1970 is None else _of_number(since_1970)


def _of_number(number: float) -> dt.datetime | None:
    if number < SECONDS_BELOW:
        seconds: float | None = number
    else:
        scaled = (number / each for each in _PER_SECOND)
        seconds = next((seconds for seconds in scaled if _EARLIEST <= seconds < _LATEST), None)
    if seconds is None or seconds < 1:
        return None
    return _EPOCH + dt.timedelta(microseconds=round(seconds * 1_000_000))


def _of_text(text: str) -> dt.datetime | None:
    """Parses ISO 8601. A time without a zone is in UTC."""
    try:
        time = dt.datetime.fromisoformat(text.upper().removesuffix(" UTC"))
        time = time.replace(tzinfo=dt.UTC) if time.tzinfo is None else time.astimezone(dt.UTC)
    except (ValueError, OverflowError):
        return None
    return time if time > _EPOCH and time.timestamp() < SECONDS_BELOW else None
