"""The calls that we make. Every one ends in `_call`, which raises one exception per meaning (see faults.py)."""

import datetime as dt
import json
import logging
import re
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

import requests
from urllib3.exceptions import NewConnectionError, ProxyError, ReadTimeoutError

from runsadmin import conf, lenient_json
from runsadmin.errors import ConnectionHeld, TooLarge, UpstreamError
from runsadmin.ids import in_path, is_id
from runsadmin.upstream import auth, charsets, configuration, error_messages, faults, transport
from runsadmin.upstream.faults import NoResponse
from runsadmin.upstream.records import RunRecord, Unreadable

logger = logging.getLogger(__name__)

PAGE_SIZE = 100
BLOCK = 65536

_REQUEST_IDS = ("x-request-id", "apim-request-id", "x-ms-request-id", "request-id", "x-correlation-id")

_HOST = re.compile(r"[A-Za-z0-9.:_\[\]-]{1,260}")


_FIRST_ITEM = re.compile(r'"data"\s*:\s*\[\s*\{')
_NEXT_MEMBER = re.compile(r'[\s,]*(?=")')
_COLON = re.compile(r"\s*:\s*")


@dataclass(frozen=True)
class Response[T]:
    """What came back, the server's own name for the request (`x-request-id`), and when that left us."""

    value: T
    http_status: int
    request_id: str
    sent: float  # In time.monotonic().

    def of[S](self, part: S) -> "Response[S]":
        """The same answer, as far as it tells of this."""
        return Response(part, self.http_status, self.request_id, self.sent)


@dataclass(frozen=True)
class Page:
    """One page of a thread's runs, as far as it can be read.

    `ids` has those of all items, also of those that are not Runs, of which `unreadable` tells. `size` is the number of
    items. `has_more` and `last_id` are the server's own; None and "" where it does not say.
    """

    records: tuple[RunRecord, ...]
    ids: tuple[str, ...]
    unreadable: tuple[str, ...]
    size: int
    has_more: bool | None = None
    last_id: str = ""

    def before(self, run_id: str) -> "Page":
        """Its beginning up to this run, as a page after which there is more."""
        ids = self.ids[: self.ids.index(run_id)]
        records = tuple(record for record in self.records if record.upstream_id in ids)
        return Page(records, ids, self.unreadable, len(ids), has_more=True)


class Client:
    """Speaks to one connection. Safe to share between threads: each has its own session.

    An id that no path can carry raises InvalidId before anything is sent.
    """

    def __init__(self, connection: conf.Connection) -> None:
        self.connection = connection

    def retrieve_run(self, thread_id: str, run_id: str) -> Response[RunRecord]:
        path = f"/threads/{in_path(thread_id)}/runs/{in_path(run_id)}"
        return self._call("GET", path, read=lambda body: self._run(body, thread_id, run_id))

    def modify_run(
        self, thread_id: str, run_id: str, metadata: Mapping[str, object], *, send_by: float = float("inf")
    ) -> Response[RunRecord]:
        """Sends the whole intended map: servers differ in whether they replace or merge.

        From `send_by` (in time.monotonic()) on nothing leaves this machine any more: then it raises NotSent.
        """
        path = f"/threads/{in_path(thread_id)}/runs/{in_path(run_id)}"
        body = {"metadata": dict(metadata)}
        return self._call(
            "POST", path, body=body, read=lambda body: self._run(body, thread_id, run_id), send_by=send_by
        )

    def list_runs(
        self, thread_id: str, *, after: str = "", limit: int = PAGE_SIZE, oldest_first: bool = False
    ) -> Response[Page]:
        """One page. What it proves is up to the caller (see paging.py): servers differ in how they page."""
        order = "asc" if oldest_first else "desc"
        params = {"limit": str(limit), "order": order} | ({"after": after} if after else {})
        return self._call(
            "GET", f"/threads/{in_path(thread_id)}/runs", params=params, read=lambda body: self._page(body, thread_id)
        )

    def retrieve_thread(self, thread_id: str) -> Response[str]:
        return self._call("GET", f"/threads/{in_path(thread_id)}", read=lambda body: _id(body))

    def list_threads(self, *, after: str = "") -> Response[tuple[str, ...]]:
        """What a server names as ids of threads, newest first. Few servers have this call: others answer 404 or 405."""
        params = {"limit": str(PAGE_SIZE), "order": "desc"} | ({"after": after} if after else {})
        return self._call("GET", "/threads", params=params, read=_named)

    def _read(self, item: object, thread_id: str) -> RunRecord:
        missing_is_empty = self.connection.missing_metadata_is_empty
        return RunRecord.read(item, thread_id=thread_id, missing_metadata_is_empty=missing_is_empty)

    def _run(self, body: object, thread_id: str, run_id: str) -> RunRecord:
        record = self._read(body, thread_id)
        if record.upstream_id != run_id:
            raise Unreadable("The answer is another run.")
        return record

    def _page(self, body: object, thread_id: str) -> Page:
        records: list[RunRecord] = []
        ids: list[str] = []
        unreadable: list[str] = []
        items = _items(body)
        for item in items:
            try:
                record = self._read(item, thread_id)
            except Unreadable as error:
                unreadable.append(str(error))
            else:
                records.append(record)
            run_id = item.get("id") if isinstance(item, Mapping) else None
            if is_id(run_id):
                ids.append(run_id)
        envelope = body if isinstance(body, Mapping) else {}
        has_more, last_id = envelope.get("has_more"), envelope.get("last_id")
        return Page(
            tuple(records),
            tuple(ids),
            tuple(unreadable),
            len(items),
            has_more if isinstance(has_more, bool) else None,
            last_id if is_id(last_id) else "",
        )

    def _call[T](
        self,
        method: str,
        path: str,
        *,
        read: Callable[[object], T],
        params: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
        send_by: float = float("inf"),
    ) -> Response[T]:
        transport.send_by.set(send_by)
        transport.sent.set(0.0)
        data = None if body is None else _encode(body)
        try:
            with transport.slot.get() or nullcontext():
                transport.deadline.set(time.monotonic() + self.connection.timeout)
                line = _line(self.connection)
                with line.send(method, path, params, data) as response:
                    content = _content(response)
        except _Oversized as oversized:
            raise _too_large(method, oversized, response) from None
        except transport.TooLate:
            raise _fault(method, NoResponse.TOO_LATE) from None
        except requests.ConnectTimeout:
            raise _fault(method, NoResponse.NO_CONNECTION) from None
        except requests.exceptions.SSLError:  # Of the handshake, or of a connection that was cut later.
            raise _fault(method, NoResponse.CUT if transport.sent.get() else NoResponse.NO_CONNECTION) from None
        except requests.Timeout:
            raise _fault(method, NoResponse.TIMEOUT) from None
        except requests.ConnectionError as error:
            raise _fault(method, _why_not_connected(error)) from None
        except requests.exceptions.ChunkedEncodingError:
            raise _fault(method, NoResponse.CUT) from None
        except requests.RequestException as error:
            raise _fault(method, _own_error(error)) from None
        except UpstreamError:  # Without a token nothing is sent.
            raise
        except Exception as error:  # noqa: BLE001 - what was never sent must not count as sent.
            raise _fault(method, _own_error(error)) from None

        if not 200 <= response.status_code < 300:
            raise _refusal(method, response, content, line)
        try:
            value = read(lenient_json.read(content, charsets.of(response.headers.get("Content-Type", ""))))
        except ValueError:
            raise _fault(method, NoResponse.UNREADABLE, response) from None
        return Response(value, response.status_code, _request_id(response), transport.sent.get())


class _Line:
    """One thread's line to a connection. What is the same for every request is worked out once, not for each."""

    def __init__(self, connection: conf.Connection) -> None:
        """Raises Held when something of its settings cannot be sent: it would end as an error that quotes it."""
        for mistake in configuration.mistakes(connection):
            raise ConnectionHeld(str(mistake))
        self.connection = connection
        self._url = connection.url.rstrip("/")
        self._auth = auth.of(connection)
        self._session = requests.Session()
        self._session.auth = self._auth  # Or a netrc file would have a say.
        self._session.mount("http://", transport.BoundedAdapter())
        self._session.mount("https://", transport.BoundedAdapter())
        self._session.headers.update(
            {"User-Agent": "runsadmin", "Accept": "application/json", "OpenAI-Beta": "assistants=v2"}
        )
        if connection.organization:
            self._session.headers["OpenAI-Organization"] = connection.organization
        if connection.project:
            self._session.headers["OpenAI-Project"] = connection.project
        like = self._session.prepare_request(requests.Request("GET", self._url, auth=lambda request: request))
        self._headers: Any = dict(like.headers)
        self._hooks = like.hooks
        # Proxies and certificates of the environment.
        self._options: Any = self._session.merge_environment_settings(self._url, {}, True, None, None)
        self._adapter = self._session.get_adapter(self._url)

    def send(self, method: str, path: str, params: Mapping[str, str] | None, body: bytes | None) -> requests.Response:
        """The answer, of which only the head has been read. Follows no redirect."""
        request = requests.PreparedRequest()
        request.method = method
        query = dict(params or {}) | _extra_query(self.connection)
        request.url = f"{self._url}{path}?{urlencode(query)}" if query else f"{self._url}{path}"
        request.headers = self._headers.copy()
        request.hooks = self._hooks
        if body is not None:
            request.body = body
            request.headers["Content-Type"] = "application/json"
            request.headers["Content-Length"] = str(len(body))
        timeout = (self.connection.connect_timeout, self.connection.read_timeout)
        return self._adapter.send(self._auth(request), timeout=timeout, **self._options)

    @property
    def secret(self) -> str:
        """The key or token that was sent last."""
        return self._auth.secret

    def close(self) -> None:
        self._session.close()


_lines = threading.local()


def _line(connection: conf.Connection) -> _Line:
    """This thread's line. One for each configuration, so that a mended key is used at once."""
    lines: dict[conf.Connection, _Line] = _lines.__dict__.setdefault("by_connection", {})
    if connection not in lines:
        for stale in [known for known in lines if known.alias == connection.alias]:
            lines.pop(stale).close()
        lines[connection] = _Line(connection)
    return lines[connection]


def _encode(body: Mapping[str, object]) -> bytes:
    return lenient_json.dumps(body).encode()


def _extra_query(connection: conf.Connection) -> dict[str, str]:
    return {"api-version": connection.api_version} if connection.api_version else {}


class _Oversized(Exception):
    """A body that is larger than allowed. `size` is None where the server does not say."""

    def __init__(self, size: int | None, beginning: bytes) -> None:
        super().__init__()
        self.size = size
        self.beginning = beginning


def _content(response: requests.Response) -> bytes:
    """The body. Of an error it is enough to have read some of it, since the status has told what counts."""
    content = bytearray()
    try:
        _read(response, content)
    except (requests.RequestException, _Oversized):
        if 200 <= response.status_code < 300:
            raise
    return bytes(content)


def _read(response: requests.Response, content: bytearray) -> None:
    """Reads the body. Raises _Oversized when it is larger than allowed, or is said to be: the rest is never read."""
    limit = conf.max_response_bytes()
    header = response.headers.get("Content-Length", "")
    announced = int(header) if re.fullmatch("[0-9]{1,18}", header) else None
    for chunk in response.iter_content(BLOCK):
        content += chunk
        if len(content) > limit or (announced is not None and announced > limit):
            raise _Oversized(announced, bytes(content[:BLOCK]))


def _why_not_connected(error: requests.ConnectionError) -> NoResponse:
    """`requests` has one class for "never connected" and "cut in the middle": the cause below it tells them apart."""
    cause = error.args[0] if error.args else None
    reason = getattr(cause, "reason", cause)
    if isinstance(reason, NewConnectionError | ProxyError):
        return NoResponse.NO_CONNECTION
    if isinstance(reason, ReadTimeoutError):
        return NoResponse.TIMEOUT
    return NoResponse.CUT


def _too_large(method: str, oversized: _Oversized, response: requests.Response) -> UpstreamError:
    """The message names the size and the setting. For a read it is an error of its own: less can be asked for."""
    allowed = conf.max_response_bytes()
    size = f"{oversized.size:,}" if oversized.size is not None else f"more than {allowed:,}"
    message = (
        f"{NoResponse.TOO_LARGE} It has {size} bytes, and {allowed:,} are accepted: raise RUNSADMIN_MAX_RESPONSE_BYTES."
    )
    status, request_id = response.status_code, _request_id(response)
    if method == "GET":
        return TooLarge(message, http_status=status, request_id=request_id, first_id=_first_id(oversized.beginning))
    return faults.of_write(NoResponse.TOO_LARGE)(message, http_status=status, request_id=request_id)


def _first_id(beginning: bytes) -> str:
    """The id of the first item of a list of which only the beginning was read. Empty: it comes too late."""
    text = beginning.decode(errors="ignore")
    item = _FIRST_ITEM.search(text)
    position = item.end() if item else len(text)
    read = json.JSONDecoder().raw_decode
    try:
        while member := _NEXT_MEMBER.match(text, position):
            name, position = read(text, member.end())
            value, position = read(text, _COLON.match(text, position).end())  # type: ignore[union-attr]
            if name == "id":
                return value if is_id(value) else ""
    except (ValueError, AttributeError):
        return ""
    return ""


def _own_error(error: Exception) -> NoResponse:
    """An exception that says nothing about the server. Its text may quote a header, and with it the key."""
    if transport.sent.get():
        return NoResponse.UNREADABLE
    slots = [f"{frame.name} ({frame.filename}:{frame.lineno})" for frame in traceback.extract_tb(error.__traceback__)]
    logger.error("A request could not be sent: %s in %s", type(error).__name__, slots[-1] if slots else "?")
    return NoResponse.NOT_SENT


def _fault(method: str, why: NoResponse, response: requests.Response | None = None) -> UpstreamError:
    kind = faults.of_read(why) if method == "GET" else faults.of_write(why)
    if response is None:
        return kind(why.value, has_response=why not in faults.NO_RESPONSE)
    return kind(why.value, http_status=response.status_code, request_id=_request_id(response))


def _refusal(method: str, response: requests.Response, content: bytes, line: _Line) -> UpstreamError:
    # Some servers name the key that they refuse; what they say is kept and shown.
    message = error_messages.of(content, response.headers.get("content-type", ""), secret=line.secret)
    status = response.status_code
    redirect = ""
    if status in faults.REDIRECTS:
        redirect = _target(response.headers.get("location", ""), line.connection.url)
        message = f"The server redirects to {redirect}. Check {line.connection.setting('URL')}."
    kind: type[UpstreamError]
    if faults.says_scheme_is_wrong(status, message):
        kind = ConnectionHeld
        message = f"{message} Check {line.connection.setting('URL')}: it has to begin with https."
    elif method == "GET":
        kind = faults.of_read(status)
    else:
        kind = faults.of_write(status, run_is_active=faults.says_run_is_active(status, message))
    return kind(
        message or f"The server answered {status} without saying why.",
        http_status=status,
        request_id=_request_id(response),
        retry_after=faults.retry_after(
            response.headers, now=dt.datetime.now(dt.UTC), http_status=status, message=message
        ),
        redirect=redirect,
    )


def _target(location: str, base_url: str) -> str:
    """Where a redirect leads: scheme and host only, since the rest may be secret."""
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


def _request_id(response: requests.Response) -> str:
    """The server's own name for the request; Azure's gateway has another one for it."""
    names = (response.headers.get(name, "").strip() for name in _REQUEST_IDS)
    return next(filter(None, names), "")[:256].replace("\0", "\ufffd")


def _id(body: object) -> str:
    if not isinstance(body, Mapping) or not isinstance(body.get("id"), str):
        raise Unreadable("The answer has no id.")
    return str(body["id"])


def _named(body: object) -> tuple[str, ...]:
    """The ids of a list's items. An item without one has no place in a list of ids."""
    ids = [item.get("id") for item in _items(body) if isinstance(item, Mapping)]
    return tuple(id for id in ids if isinstance(id, str))


def _items(body: object) -> list[object]:
    data = body.get("data") if isinstance(body, Mapping) else None
    if data is None and isinstance(body, Mapping) and "data" in body:
        return []  # Go writes an empty list that was never filled as null.
    if not isinstance(data, list):
        raise Unreadable("The answer is not a list.")
    return data
