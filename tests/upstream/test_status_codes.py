"""What each status code and each missing response means, and how long to wait afterwards."""

import datetime as dt

import pytest

from runsadmin.errors import (
    ConnectionHeld,
    Forbidden,
    NotFound,
    NotSent,
    OutcomeUnknown,
    Rejected,
    RunActive,
    UpstreamError,
)
from runsadmin.upstream import status_codes
from runsadmin.upstream.status_codes import NoResponse

NOW = dt.datetime(2026, 3, 1, 12, 0, 0, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("response", "meaning"),
    [
        *((reason, NotSent) for reason in NoResponse),
        (401, ConnectionHeld),
        (403, Forbidden),
        (407, ConnectionHeld),
        (404, NotFound),
        (408, NotSent),
        (409, NotSent),
        (429, NotSent),
        (400, Rejected),
        (422, Rejected),
        (500, NotSent),
        (502, NotSent),
        (503, NotSent),
        *((status, ConnectionHeld) for status in status_codes.REDIRECTS),
        (304, NotSent),
        (425, NotSent),
    ],
)
def test_failed_read_is_classified(response: NoResponse | int, meaning: type[UpstreamError]) -> None:
    assert status_codes.classify_read(response) is meaning


@pytest.mark.parametrize(
    ("response", "meaning"),
    [
        (NoResponse.NO_CONNECTION, NotSent),
        (NoResponse.TOO_LATE, NotSent),
        (NoResponse.CUT, OutcomeUnknown),
        (NoResponse.TIMEOUT, OutcomeUnknown),
        (NoResponse.TOO_LARGE, OutcomeUnknown),
        (NoResponse.UNREADABLE, OutcomeUnknown),
        (401, ConnectionHeld),
        (403, Forbidden),
        (407, ConnectionHeld),
        (404, NotFound),
        (408, NotSent),
        (409, NotSent),
        (429, NotSent),
        (400, Rejected),
        (413, Rejected),
        (422, Rejected),
        (500, OutcomeUnknown),
        (502, OutcomeUnknown),
        (503, OutcomeUnknown),
        (504, OutcomeUnknown),
        *((status, OutcomeUnknown) for status in (301, 302, 303)),
        (307, ConnectionHeld),
        (308, ConnectionHeld),
        (304, OutcomeUnknown),
        (425, NotSent),
    ],
)
def test_failed_write_is_classified(response: NoResponse | int, meaning: type[UpstreamError]) -> None:
    assert status_codes.classify_write(response) is meaning


def test_refusal_of_an_active_run_is_recognized() -> None:
    assert status_codes.says_run_is_active(400, "Cannot update run with status 'in_progress'.")
    assert not status_codes.says_run_is_active(400, "Invalid 'metadata'.")
    assert status_codes.classify_write(400, run_is_active=True) is RunActive


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
        ({"retry-after": "Sun, 01 Mar 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Sun, 01 Mar 2026 11:59:00 GMT"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e300"}, 300.0),
        ({"retry-after": "86400"}, 300.0),
        ({"retry-after": "later"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "30s"}, 30.0),
        ({"retry-after": "30 seconds"}, 30.0),
        ({"retry-after": "1_0"}, None),
        ({"retry-after": "٣"}, None),
        ({"retry-after": "0x10"}, None),
        ({"retry-after": "Sun, 99 Mar 2026 12:00:30 GMT"}, None),
        ({"x-ms-retry-after-ms": "1500"}, 1.5),
        ({"x-ms-retry-after-ms": "1500", "retry-after": "7"}, 1.5),
        ({"x-ms-retry-after-ms": "-1", "retry-after": "7"}, 7.0),
        ({"retry-after-ms": "999999999"}, 300.0),
    ],
)
def test_retry_after_is_read_from_headers(headers: dict[str, str], seconds: float | None) -> None:
    assert status_codes.retry_after(headers, now=NOW) == seconds


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        ("Please retry after 45 seconds.", 45.0),
        ("Rate limit reached. Please try again in 1m30s.", 90.0),
        ("Please try again in 6ms. Visit the docs.", 0.006),
        ("Please try again in 500 milliseconds", 0.5),
        ("Please retry in 41.64s.", 41.64),
        ("RETRY AFTER 10 SECONDS", 10.0),
        ("Wait at least 2 minutes and 3 seconds", 123.0),
        ("Retry-After: 45", 45.0),
        ("Your quota resets in 20 sec.", 20.0),
        ("Try again in 1 hour", 300.0),
        ("Try again in 7m12s", 300.0),
        (f"Try again in {'9' * 300} seconds", None),
        ("Try again in 5 days.", None),
        ("Try again later. The limit is 3 seconds.", None),
        ("45 seconds", None),
        ("Retry after a while", None),
        ("", None),
    ],
)
def test_retry_after_is_read_from_the_message(message: str, seconds: float | None) -> None:
    assert status_codes.retry_after({}, now=NOW, http_status=429, message=message) == seconds
    assert status_codes.retry_after({}, now=NOW, http_status=503, message=message) == seconds
    assert status_codes.retry_after({}, now=NOW, http_status=500, message=message) is None
    assert status_codes.retry_after({"retry-after": "7"}, now=NOW, http_status=429, message=message) == 7.0
