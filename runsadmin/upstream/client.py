"""The API calls. All of them go through `_call`, which raises one exception per meaning (see call_errors.py)."""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from urllib.parse import urlencode

import requests
from requests.utils import default_headers

from runsadmin import conf, lenient_json
from runsadmin.errors import ConnectionHeld, UpstreamError
from runsadmin.ids import in_path, is_id
from runsadmin.upstream import auth, call_errors, configuration
from runsadmin.upstream.body import Oversized, charset_of, read_content
from runsadmin.upstream.deadline_connection import DeadlineAdapter, Exchange
from runsadmin.upstream.records import PAGE_SIZE, Page, Response, RunRecord, Unreadable
from runsadmin.upstream.status_codes import NoResponse

type Slot = AbstractContextManager[object]


class Client:
    """Calls one connection. Python threads can share a client: each thread has its own session.

    An id that cannot be part of a path raises InvalidId before anything is sent. `slot` is held from the start of a
    request to the end of its response.
    """

    def __init__(self, connection: conf.Connection, *, slot: Slot | None = None) -> None:
        self.connection = connection
        self._slot = slot

    def retrieve_run(self, thread_id: str, run_id: str) -> Response[RunRecord]:
        return self._call_run("GET", thread_id, run_id)

    def modify_run(
        self, thread_id: str, run_id: str, metadata: Mapping[str, object], send_by: float = float("inf")
    ) -> Response[RunRecord]:
        """Sends the whole intended map: some servers replace the metadata, others merge it.

        Raises NotSent if the request cannot be sent before `send_by` (in time.monotonic()).
        """
        return self._call_run("POST", thread_id, run_id, {"metadata": dict(metadata)}, send_by)

    def list_runs(
        self, thread_id: str, *, after: str = "", limit: int = PAGE_SIZE, oldest_first: bool = False
    ) -> Response[Page]:
        """One page of a thread's runs. Pagination differs between servers: paging.py decides what a page proves."""
        order = "asc" if oldest_first else "desc"
        params = {"limit": str(limit), "order": order} | ({"after": after} if after else {})
        return self._call(
            "GET", f"/threads/{in_path(thread_id)}/runs", lambda body: self._page(body, thread_id), params=params
        )

    def retrieve_thread(self, thread_id: str) -> Response[str]:
        return self._call("GET", f"/threads/{in_path(thread_id)}", _id)

    def list_threads(self, *, after: str = "") -> Response[tuple[str, ...]]:
        """A page of the ids of all threads, newest first. Few servers have this call; others return 404 or 405."""
        params = {"limit": str(PAGE_SIZE), "order": "desc"} | ({"after": after} if after else {})
        return self._call("GET", "/threads", _ids, params=params)

    def _read(self, item: object, thread_id: str) -> RunRecord:
        return RunRecord.read(item, thread_id, missing_is_empty=self.connection.missing_metadata_is_empty)

    def _call_run(
        self,
        method: str,
        thread_id: str,
        run_id: str,
        body: Mapping[str, object] | None = None,
        send_by: float = float("inf"),
    ) -> Response[RunRecord]:
        def read(content: object) -> RunRecord:
            record = self._read(content, thread_id)
            if record.upstream_id != run_id:
                raise Unreadable("The response contains another run.")
            return record

        return self._call(method, f"/threads/{in_path(thread_id)}/runs/{in_path(run_id)}", read, body, send_by)

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
            if isinstance(item, Mapping) and is_id(run_id := item.get("id")):
                ids.append(run_id)
        envelope = body if isinstance(body, Mapping) else {}
        has_more, last_id = envelope.get("has_more"), envelope.get("last_id")
        return Page(
            tuple(records), tuple(ids), tuple(unreadable), len(items),
            has_more if isinstance(has_more, bool) else None, last_id if is_id(last_id) else "",
        )  # fmt: skip

    def _call[T](
        self,
        method: str,
        path: str,
        read: Callable[[object], T],
        body: Mapping[str, object] | None = None,
        send_by: float = float("inf"),
        *,
        params: Mapping[str, str] | None = None,
    ) -> Response[T]:
        timeout = self.connection.timeout.total_seconds()
        exchange = Exchange(time.monotonic() + timeout, send_by)
        try:
            with self._slot or nullcontext():
                exchange.deadline = time.monotonic() + timeout  # The timeout excludes waiting for the slot.
                session = _session_of(self.connection)
                with session.send(exchange, method, path, params, body) as response:
                    content = read_content(response)
        except UpstreamError:  # Nothing was sent, because the settings are invalid or there is no token.
            raise
        except Oversized as oversized:
            raise call_errors.of_oversized(method, oversized) from None
        except Exception as error:  # noqa: BLE001 - Any error must be classified.
            raise call_errors.of_fault(method, call_errors.why_incomplete(error, exchange)) from None
        if not 200 <= response.status_code < 300:
            raise call_errors.of_status(method, response, content, self.connection, session.secret)
        try:
            value = read(lenient_json.read(content, charset_of(response.headers.get("Content-Type", ""))))
        except ValueError:
            raise call_errors.of_fault(method, NoResponse.UNREADABLE, response) from None
        return Response(value, response.status_code, call_errors.request_id_of(response), exchange.sent_at)


def _id(body: object) -> str:
    match body:
        case {"id": str(found)}:
            return found
    raise Unreadable("The response has no id.")


def _ids(body: object) -> tuple[str, ...]:
    """The ids of a list's items. Items without an id are left out."""
    ids = [item.get("id") for item in _items(body) if isinstance(item, Mapping)]
    return tuple(id for id in ids if isinstance(id, str))


def _items(body: object) -> list[object]:
    match body:
        case {"data": None}:  # Go encodes a nil slice as null.
            return []
        case {"data": list(items)}:
            return items
    raise Unreadable("The response is not a list.")


# --- HTTP sessions, one per Python thread and connection


class _ThreadSession:
    """One Python thread's session with a connection. What all requests share is prepared once."""

    def __init__(self, connection: conf.Connection) -> None:
        """Raises ConnectionHeld if a setting cannot be sent: an error from `requests` would quote it."""
        for error in configuration.errors(connection):
            raise ConnectionHeld(str(error))
        self.connection = connection
        self._url = connection.url.rstrip("/")
        self._auth = auth.of(connection)
        self._headers = {
            **default_headers(),
            "User-Agent": "runsadmin",
            "Accept": "application/json",
            "OpenAI-Beta": "assistants=v2",
        }
        if connection.organization:
            self._headers["OpenAI-Organization"] = connection.organization
        if connection.project:
            self._headers["OpenAI-Project"] = connection.project
        # Proxies and certificates from the environment.
        self._options: Any = requests.Session().merge_environment_settings(self._url, {}, True, None, None)
        self._adapter = DeadlineAdapter()

    def send(
        self,
        exchange: Exchange,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        body: Mapping[str, object] | None,
    ) -> requests.Response:
        """Sends a request and reads only the head of the response. Does not follow redirects."""
        request = requests.PreparedRequest()
        request.method = method
        query = dict(params or {})
        if self.connection.api_version:
            query["api-version"] = self.connection.api_version
        request.url = f"{self._url}{path}?{urlencode(query)}" if query else f"{self._url}{path}"
        request.headers = self._headers.copy()  # type: ignore[assignment]
        if body is not None:
            request.body = lenient_json.dumps(body).encode()
            request.headers["Content-Type"] = "application/json"
            request.headers["Content-Length"] = str(len(request.body))
        timeout = (self.connection.connect_timeout, self.connection.read_timeout)
        return self._adapter.send_within(exchange, self._auth(request), timeout=timeout, **self._options)

    @property
    def secret(self) -> str:
        """The last key or token sent."""
        return self._auth.secret

    def close(self) -> None:
        self._adapter.close()


_sessions = threading.local()


def _session_of(connection: conf.Connection) -> _ThreadSession:
    """This Python thread's session. Each configuration has its own, so that a corrected key is used at once."""
    sessions: dict[conf.Connection, _ThreadSession] = _sessions.__dict__.setdefault("by_connection", {})
    if connection not in sessions:
        for stale in [known for known in sessions if known.alias == connection.alias]:
            sessions.pop(stale).close()
        sessions[connection] = _ThreadSession(connection)
    return sessions[connection]
