"""What a fault of one call means: the whole of it, to be read as a table.

A *read* changes nothing upstream, so all that matters is whether to try again. For a *write* it matters whether it can
have been kept: only an answer that says no, or a connection that never was, proves that it was not.
"""

import datetime as dt
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from enum import StrEnum

from runsadmin.errors import Forbidden, Held, NotFound, NotSent, OutcomeUnknown, Rejected, RunActive, UpstreamError

MAX_RETRY_AFTER = 300.0

REDIRECTS = (301, 302, 303, 307, 308)


class NoAnswer(StrEnum):
    """Why there is no answer to judge."""

    NO_CONNECTION = "The server could not be reached."
    TOO_LATE = "It took too long until the request could be sent, so it was not."
    CUT = "The connection was cut before the answer was whole."
    TIMEOUT = "The server took too long to answer."
    TOO_LARGE = "The answer was larger than allowed."
    UNREADABLE = "The answer could not be read."


def of_read(what: NoAnswer | int) -> type[UpstreamError]:
    """What to make of a read that ended without an answer, or with this HTTP status."""
    match what:
        case NoAnswer():
            return NotSent
        case 401 | 407:
            return Held  # 407: the credentials of a proxy on the way.
        case status if status in REDIRECTS:
            return Held
        case 403:
            return Forbidden
        case 404:
            return NotFound
        case 408 | 409 | 425 | 429:
            return NotSent
        case status if 400 <= status < 500:
            return Rejected
        case _:  # 5xx, the other 3xx, and 2xx that cannot be read.
            return NotSent


def of_write(what: NoAnswer | int, *, run_is_active: bool = False) -> type[UpstreamError]:
    """What to make of a write that ended without an answer, or with this HTTP status."""
    match what:
        case NoAnswer.NO_CONNECTION | NoAnswer.TOO_LATE:
            return NotSent
        case NoAnswer():
            return OutcomeUnknown
        case 400 if run_is_active:
            return RunActive
        case 401 | 407:
            return Held
        case 307 | 308:  # These ask for the same POST elsewhere: nothing was done here.
            return Held
        case 403:
            return Forbidden
        case 404:
            return NotFound
        case 408 | 409 | 425 | 429:
            return NotSent
        case status if 400 <= status < 500:
            return Rejected
        case _:  # 5xx, the other 3xx, and 2xx that cannot be read. 303 even means that the POST was done.
            return OutcomeUnknown


def says_run_is_active(status: int, message: str) -> bool:
    """Whether a refusal is for the run's status. The wording was seen on recorded traffic."""
    return status == 400 and message.startswith("Cannot update run with status")


def message_of(body: object) -> str:
    """The server's own words out of an error body, "" where there are none. U+0000 becomes U+FFFD."""
    if isinstance(body, Mapping):
        error = body.get("error", body.get("detail", ""))
        if isinstance(error, Mapping):
            error = error.get("message", "")
        if isinstance(error, str):
            return error[:1000].replace("\0", "\ufffd")
    return ""


def retry_after(headers: Mapping[str, str], *, now: dt.datetime) -> float | None:
    """How many seconds the server asks us to wait: `retry-after-ms`, or `Retry-After` in seconds or as an HTTP date.

    None when it does not say, or says nonsense. Never more than five minutes.
    """
    for value, unit in ((headers.get("retry-after-ms"), 0.001), (headers.get("retry-after"), 1.0)):
        if value is None:
            continue
        try:
            seconds = float(value) * unit
        except ValueError:
            try:
                date = parsedate_to_datetime(value)
            except ValueError:
                continue
            seconds = ((date if date.tzinfo else date.replace(tzinfo=dt.UTC)) - now).total_seconds()
        if 0 <= seconds < float("inf"):
            return min(seconds, MAX_RETRY_AFTER)
    return None
