"""What an HTTP status, or the lack of a response, means for a call, as a table.

A *read* changes nothing upstream, so it only matters whether to retry. For a *write* it matters whether it may have
happened: only a refusal, or a connection that was never made, proves that it did not.
`services.gateway.effect_of` decides what a failure means for the whole connection.
"""

import datetime as dt
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from enum import StrEnum

from runsadmin import errors

MAX_RETRY_AFTER = 300.0

REDIRECTS = (301, 302, 303, 307, 308)

_RETRY_HEADERS = (("retry-after-ms", 0.001), ("x-ms-retry-after-ms", 0.001), ("retry-after", 1.0))
_NUMBER = re.compile(r"(\d{1,400}(?:\.\d{0,400})?(?:[eE]\+?\d{1,3})?) ?(?:s|secs?|seconds?)?", re.ASCII)
_UNITS = {"ms": 0.001, "milliseconds": 0.001, "seconds": 1.0, "secs": 1.0, "minutes": 60.0, "mins": 60.0, "m": 60.0}
_UNITS |= {"hours": 3600.0, "hrs": 3600.0, "h": 3600.0}
_WAIT = re.compile(r"\b(?:retry|retrying|try|trying|wait|again|resets?)\b[^.\d]{0,30}(?=\d)", re.IGNORECASE)
_AMOUNT = re.compile(
    r"(?:[\s,]{0,3}(?:and )?)(\d{1,40}(?:\.\d{1,40})?) ?"
    r"(ms|milliseconds?|hours?|hrs?|h|minutes?|mins?|m|seconds?|secs?|s|(?=[.,;)]|$))(?![a-z])",
    re.ASCII | re.IGNORECASE,
)


class NoResponse(StrEnum):
    """Why there is no response to classify."""

    NO_CONNECTION = "The server could not be reached."
    TOO_LATE = "The request could not be sent in time, so it was not sent."
    NOT_SENT = "The request could not be sent because of an internal error; see the log."
    CUT = "The connection was cut before the response was complete."
    TIMEOUT = "The server took too long to respond."
    TOO_LARGE = "The response was larger than allowed."
    UNREADABLE = "The response could not be read."


# The server sent no complete response.
NO_RESPONSE = (NoResponse.NO_CONNECTION, NoResponse.CUT, NoResponse.TIMEOUT)


def classify_read(result: NoResponse | int) -> type[errors.UpstreamError]:
    """The meaning of a read that ended without a response, or with this HTTP status."""
    match result:
        case NoResponse():
            return errors.NotSent
        case status if status in REDIRECTS:
            return errors.ConnectionHeld
        case _:  # NotSent: 5xx and the other 3xx.
            return _refusal(result) or errors.NotSent


def classify_write(result: NoResponse | int, *, run_is_active: bool = False) -> type[errors.UpstreamError]:
    """The meaning of a write that ended without a response, or with this HTTP status."""
    match result:
        case NoResponse.NO_CONNECTION | NoResponse.TOO_LATE | NoResponse.NOT_SENT:
            return errors.NotSent
        case NoResponse():
            return errors.OutcomeUnknown
        case 400 if run_is_active:
            return errors.RunActive
        case 307 | 308:  # The POST should be sent elsewhere, so this server did nothing.
            return errors.ConnectionHeld
        case _:  # OutcomeUnknown: 5xx and the other 3xx. A 303 even means that the POST happened.
            return _refusal(result) or errors.OutcomeUnknown


def _refusal(status: int) -> type[errors.UpstreamError] | None:
    """The meaning of a 4xx: nothing was done. None for any other status."""
    match status:
        case 401 | 407:  # 407: the credentials of a proxy.
            return errors.ConnectionHeld
        case 403:
            return errors.Forbidden
        case 404:
            return errors.NotFound
        case 408 | 409 | 425 | 429:
            return errors.NotSent
        case _:
            return errors.Rejected if 400 <= status < 500 else None


def says_run_is_active(status: int, message: str) -> bool:
    """Whether upstream refused because of the run's status. The wording is from recorded traffic."""
    return status == 400 and message.startswith("Cannot update run with status")


def says_scheme_is_wrong(status: int, message: str) -> bool:
    """Whether plain HTTP was sent to an HTTPS port, according to the messages of nginx, Go and others."""
    return status == 400 and re.search(r"\bHTTP\b.{1,60}\b(HTTPS|SSL|TLS)\b", message) is not None


def retry_after(
    headers: Mapping[str, str], *, now: dt.datetime, http_status: int | None = None, message: str = ""
) -> float | None:
    """How many seconds the server asks us to wait, in a header or, with a 429 or 503, in its message.

    None if there is no valid value. At most five minutes.
    """
    for name, unit in _RETRY_HEADERS:
        seconds = _seconds(headers.get(name, ""), unit, now)
        if seconds is not None:
            return seconds
    return _from_message(message) if http_status in (429, 503) else None


def _seconds(value: str, unit: float, now: dt.datetime) -> float | None:
    if number := _NUMBER.fullmatch(value.strip()):
        return _bounded(float(number[1]) * unit)
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return _bounded(((date if date.tzinfo else date.replace(tzinfo=dt.UTC)) - now).total_seconds())


def _from_message(message: str) -> float | None:
    """Parses `retry after 45 seconds` and `try again in 1m30s`. Without a unit, the number is in seconds."""
    seconds = None
    if wait := _WAIT.search(message):
        position = wait.end()
        while amount := _AMOUNT.match(message, position):
            seconds = (seconds or 0.0) + float(amount[1]) * _unit(amount[2].lower())
            position = amount.end()
    return None if seconds is None else _bounded(seconds)


def _unit(name: str) -> float:
    return _UNITS.get(name) or _UNITS.get(f"{name}s", 1.0)


def _bounded(seconds: float) -> float | None:
    return min(seconds, MAX_RETRY_AFTER) if 0 <= seconds < float("inf") else None
