"""Creates the exception for a failed call: one class per meaning (see status_codes.py), with the server's text."""

import datetime as dt
import logging
import re
import traceback
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from urllib3.exceptions import NewConnectionError, ProxyError, ReadTimeoutError

from runsadmin import conf
from runsadmin.errors import ConnectionHeld, TooLarge, UpstreamError
from runsadmin.upstream import error_messages, status_codes
from runsadmin.upstream.body import Oversized, first_id
from runsadmin.upstream.deadline_connection import Exchange, TooLate
from runsadmin.upstream.status_codes import NoResponse

logger = logging.getLogger("runsadmin.upstream")

_REQUEST_IDS = ("x-request-id", "apim-request-id", "x-ms-request-id", "request-id", "x-correlation-id")
_HOST = re.compile(r"[A-Za-z0-9.:_\[\]-]{1,260}")


def why_incomplete(error: Exception, exchange: Exchange) -> NoResponse:
    """Why a call ended without a complete response."""
    match error:
        case TooLate():
            return NoResponse.TOO_LATE
        case requests.ConnectTimeout():
            return NoResponse.NO_CONNECTION
        case requests.exceptions.SSLError():  # Raised by the handshake, or by a later cut of the connection.
            return NoResponse.CUT if exchange.sent_at else NoResponse.NO_CONNECTION
        case requests.Timeout():
            return NoResponse.TIMEOUT
        case requests.ConnectionError():
            return _why_not_connected(error)
        case requests.exceptions.ChunkedEncodingError():
            return NoResponse.CUT
        case _:  # Do not use its text, which may quote a header, and therefore the key.
            return _internal_error(error, exchange)


def _why_not_connected(error: requests.ConnectionError) -> NoResponse:
    """`requests` has one class for "never connected" and "cut in the middle". The underlying error tells them apart."""
    cause = error.args[0] if error.args else None
    reason = getattr(cause, "reason", cause)
    if isinstance(reason, NewConnectionError | ProxyError):
        return NoResponse.NO_CONNECTION
    if isinstance(reason, ReadTimeoutError):
        return NoResponse.TIMEOUT
    return NoResponse.CUT


def _internal_error(error: Exception, exchange: Exchange) -> NoResponse:
    """Classifies an unexpected error, and logs it if nothing was sent: the request must not count as sent then."""
    if exchange.sent_at:
        return NoResponse.UNREADABLE
    frames = [f"{frame.name} ({frame.filename}:{frame.lineno})" for frame in traceback.extract_tb(error.__traceback__)]
    logger.error("A request could not be sent: %s in %s", type(error).__name__, frames[-1] if frames else "?")
    return NoResponse.NOT_SENT


def of_fault(method: str, why: NoResponse, response: requests.Response | None = None) -> UpstreamError:
    kind = status_codes.classify_read(why) if method == "GET" else status_codes.classify_write(why)
    if response is None:
        return kind(why.value, has_response=why not in status_codes.NO_RESPONSE)
    return kind(why.value, http_status=response.status_code, request_id=request_id_of(response))


def of_oversized(method: str, oversized: Oversized) -> UpstreamError:
    """The message names the size and the setting. A read has its own error, since the caller can request less."""
    allowed = conf.max_response_bytes()
    size = f"{oversized.size:,}" if oversized.size is not None else f"more than {allowed:,}"
    message = (
        f"{NoResponse.TOO_LARGE} It has {size} bytes; the limit is {allowed:,}. Raise RUNSADMIN_MAX_RESPONSE_BYTES."
    )
    details: dict[str, Any] = {
        "http_status": oversized.response.status_code,
        "request_id": request_id_of(oversized.response),
    }
    if method == "GET":
        return TooLarge(message, first_id=first_id(oversized.beginning), **details)
    return status_codes.classify_write(NoResponse.TOO_LARGE)(message, **details)


def of_status(
    method: str, response: requests.Response, content: bytes, connection: conf.Connection, secret: str
) -> UpstreamError:
    # The message is stored and shown, and some servers quote the key that they refuse.
    message = error_messages.of(content, response.headers.get("content-type", ""), secret=secret)
    status = response.status_code
    redirect = ""
    if status in status_codes.REDIRECTS:
        redirect = _target(response.headers.get("location", ""), connection.url)
        message = f"The server redirects to {redirect}. Check {connection.setting('URL')}."
    kind: type[UpstreamError]
    if status_codes.says_scheme_is_wrong(status, message):
        kind = ConnectionHeld
        message = f"{message} Check {connection.setting('URL')}: it must begin with https."
    elif method == "GET":
        kind = status_codes.classify_read(status)
    else:
        kind = status_codes.classify_write(status, run_is_active=status_codes.says_run_is_active(status, message))
    return kind(
        message or f"The server returned {status} without a message.",
        http_status=status,
        request_id=request_id_of(response),
        retry_after=status_codes.retry_after(
            response.headers, now=dt.datetime.now(dt.UTC), http_status=status, message=message
        ),
        redirect=redirect,
    )


def _target(location: str, base_url: str) -> str:
    """The target of a redirect: scheme and host only, since the rest may be secret."""
    if not location:
        return "an address that it does not name"
    try:
        parts = urlsplit(urljoin(base_url, location))
    except ValueError:
        return "an address that cannot be read"
    host = parts.netloc.rpartition("@")[2]
    if parts.scheme not in ("http", "https") or not _HOST.fullmatch(host):
        return "an address that cannot be read"
    origin = f"{parts.scheme}://{host}"
    here = urlsplit(base_url)
    return f"another path of {origin}" if origin == f"{here.scheme}://{here.netloc}" else origin


def request_id_of(response: requests.Response) -> str:
    """The server's own id of the request. The name of the header depends on the server."""
    names = (response.headers.get(name, "").strip() for name in _REQUEST_IDS)
    return next(filter(None, names), "")[:256].replace("\0", "\ufffd")
