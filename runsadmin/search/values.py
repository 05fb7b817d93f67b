"""Reads the values of a search: times, durations and numbers. Each function raises ValueError for other text."""

import datetime as dt
import re
import zoneinfo
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache

_TIME = re.compile(
    r"(?P<year>\d{4})(?:-(?P<month>\d\d)(?:-(?P<day>\d\d)"
    r"(?:T(?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>\d\d)(?P<fraction>\.\d{1,6})?)?(?P<zone>Z|[+-]\d\d:\d\d)?)?)?)?",
    re.ASCII,
)
_RELATIVE = re.compile(r"([+-])(\d{1,9})([smhdw])", re.ASCII)
_DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,3})?)(ms|s|m|h|d)", re.ASCII)
_NUMBER = re.compile(r"\d{1,18}", re.ASCII)
_UNITS = {
    "ms": dt.timedelta(milliseconds=1),
    "s": dt.timedelta(seconds=1),
    "m": dt.timedelta(minutes=1),
    "h": dt.timedelta(hours=1),
    "d": dt.timedelta(days=1),
    "w": dt.timedelta(weeks=1),
}
# Beyond these, adding a time zone or a duration could leave the range of a datetime.
YEARS = range(1900, 2200)
LONGEST = dt.timedelta(days=36_500)


@dataclass(frozen=True)
class Span:
    """The time from `begin` until just before `end`. Both are the same for a moment, such as now."""

    begin: dt.datetime
    end: dt.datetime


def span(text: str, tz: dt.tzinfo, now: dt.datetime) -> Span:
    """A year, month, day, minute or second, or a moment such as `now` and `-7d`. Without an offset it is in `tz`."""
    if text == "now":
        return Span(now, now)
    if relative := _RELATIVE.fullmatch(text):
        sign, count, unit = relative.groups()
        distance = _length(text, float(count), unit)
        moment = now + distance if sign == "+" else now - distance
        return Span(moment, moment)
    if (found := _TIME.fullmatch(text)) is None:
        raise ValueError(
            f"{text!r} is not a time; expected a year, month, day or time (2026, 2026-01, 2026-01-31,"
            " 2026-01-31T12:00Z), a time relative to now (-7d, -12h, +30m), or now."
        )
    begin = _begin(found, tz)
    if begin.year not in YEARS:
        raise ValueError(f"the year {begin.year:04} is out of range: {YEARS[0]} to {YEARS[-1]}.")
    if found["hour"]:
        begin = begin.astimezone(dt.UTC)
        return Span(begin, begin + _precision(found))
    return Span(begin.astimezone(dt.UTC), _next(begin, found).astimezone(dt.UTC))


def is_moment(text: str) -> bool:
    """Whether a time is now or relative to it, and therefore has no length."""
    return text == "now" or _RELATIVE.fullmatch(text) is not None


def is_local(text: str) -> bool:
    """Whether a time is a date or has no offset, so that it depends on the time zone."""
    found = _TIME.fullmatch(text)
    return found is not None and not found["zone"]


def duration(text: str) -> dt.timedelta:
    if (found := _DURATION.fullmatch(text)) is None:
        raise ValueError(f"{text!r} is not a duration; expected a number with a unit: 250ms, 60s, 1.5m, 2h or 1d.")
    count, unit = found.groups()
    return _length(text, float(count), unit)


def number(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{text!r} is not a number; expected digits only, at most 18, such as 5000.")
    return int(text)


def time_zone(name: str) -> dt.tzinfo:
    if name not in _time_zones():
        nearest = get_close_matches(name, _time_zones(), n=1)
        raise ValueError(
            f"There is no time zone {name[:60]!r}.{f' Did you mean {nearest[0]}?' if nearest else ''} Expected a name"
            " of the IANA database, such as Europe/Berlin or UTC. An offset is part of a time in the search, such"
            " as 2026-01-31T12:00+02:00."
        )
    return zoneinfo.ZoneInfo(name)


@cache
def _time_zones() -> set[str]:
    return zoneinfo.available_timezones()


def _length(text: str, count: float, unit: str) -> dt.timedelta:
    if count * _UNITS[unit].total_seconds() > LONGEST.total_seconds():
        raise ValueError(f"{text} is too long: at most {LONGEST.days:,} days are possible.")
    return count * _UNITS[unit]


def _begin(found: re.Match[str], tz: dt.tzinfo) -> dt.datetime:
    parts = [int(found[name] or least) for name, least in _PARTS]
    fraction = round(float(found["fraction"] or 0) * 1_000_000)
    try:
        if found["zone"]:
            tz = dt.datetime.strptime(found["zone"], "%z").tzinfo or tz
        return dt.datetime(*parts, fraction, tzinfo=tz)  # type: ignore[arg-type, misc]
    except ValueError:
        raise ValueError(f"{found[0]!r} does not exist: a part of it is out of range.") from None


_PARTS = (("year", 1), ("month", 1), ("day", 1), ("hour", 0), ("minute", 0), ("second", 0))


def _precision(found: re.Match[str]) -> dt.timedelta:
    if found["fraction"]:
        return dt.timedelta(microseconds=1)
    return _UNITS["s" if found["second"] else "m"]


def _next(begin: dt.datetime, found: re.Match[str]) -> dt.datetime:
    """The beginning of the next year, month or day in the same zone."""
    if found["day"]:
        return begin + _UNITS["d"]
    if found["month"]:
        return (begin + dt.timedelta(days=31)).replace(day=1)
    return begin.replace(year=begin.year + 1)
