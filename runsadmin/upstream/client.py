"""The API calls. All of them go through `_call`, which raises one exception per meaning (see call_errors.py)."""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

import requests

from runsadmin import conf, lenient_json
from runsadmin.errors import UpstreamError
from runsadmin.ids import in_path, is_id
from runsadmin.upstream import call_errors, charsets
from runsadmin.upstream.body import Oversized, read_content
from runsadmin.upstream.deadline_connection import Exchange
from runsadmin.upstream.faults import NoResponse
from runsadmin.upstream.records import RunRecord, Unreadable
from runsadmin.upstream.responses import PAGE_SIZE, Page, Response
from runsadmin.upstream.sessions import ThreadSession, session_of

type Slot = AbstractContextManager[object]


class Client:
    """Calls one connection. Safe to share between threads: each has its own session.

    An id that cannot be part of a path raises InvalidId before anything is sent. `slot` is held from the start of a
    request to the end of its response.
    """

    def __init__(self, connection: conf.Connection, *, slot: Slot | None = None) -> None:
        self.connection = connection
        self._slot = slot

    def retrieve_run(self, thread_id: str, run_id: str) -> Response[RunRecord]:
        path = f"/threads/{in_path(thread_id)}/runs/{in_path(run_id)}"
        return self._call("GET", path, read=lambda body: self._run(body, thread_id, run_id))

    def modify_run(
        self, thread_id: str, run_id: str, metadata: Mapping[str, object], *, send_by: float = float("inf")
    ) -> Response[RunRecord]:
        """Sends the whole intended map: servers differ in whether they replace or merge.

        After `send_by` (in time.monotonic()) nothing is sent, and it raises NotSent.
        """
        path = f"/threads/{in_path(thread_id)}/runs/{in_path(run_id)}"
        body = {"metadata": dict(metadata)}
        return self._call(
            "POST", path, body=body, read=lambda body: self._run(body, thread_id, run_id), send_by=send_by
        )

    def list_runs(
        self, thread_id: str, *, after: str = "", limit: int = PAGE_SIZE, oldest_first: bool = False
    ) -> Response[Page]:
        """One page. The caller decides what it proves (see paging.py), since servers page differently."""
        order = "asc" if oldest_first else "desc"
        params = {"limit": str(limit), "order": order} | ({"after": after} if after else {})
        return self._call(
            "GET", f"/threads/{in_path(thread_id)}/runs", params=params, read=lambda body: self._page(body, thread_id)
        )

    def retrieve_thread(self, thread_id: str) -> Response[str]:
        return self._call("GET", f"/threads/{in_path(thread_id)}", read=lambda body: _id(body))

    def list_threads(self, *, after: str = "") -> Response[tuple[str, ...]]:
        """The ids of a server's threads, newest first. Few servers have this call: others return 404 or 405."""
        params = {"limit": str(PAGE_SIZE), "order": "desc"} | ({"after": after} if after else {})
        return self._call("GET", "/threads", params=params, read=_named)

    def _read(self, item: object, thread_id: str) -> RunRecord:
        return RunRecord.read(
            item, thread_id=thread_id, missing_metadata_is_empty=self.connection.missing_metadata_is_empty
        )

    def _run(self, body: object, thread_id: str, run_id: str) -> RunRecord:
        record = self._read(body, thread_id)
        if record.upstream_id != run_id:
            raise Unreadable("The response is another run.")
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
        exchange = Exchange(time.monotonic() + self.connection.timeout, send_by)
        try:
            session, response, content = self._exchange(exchange, method, path, params, body)
        except UpstreamError:  # Without a token nothing is sent.
            raise
        except Exception as error:  # noqa: BLE001 - an unsent request must not count as sent.
            raise call_errors.of_exception(method, error, exchange) from None
        if isinstance(content, Oversized):
            raise call_errors.of_oversized(method, content, response)
        if not 200 <= response.status_code < 300:
            raise call_errors.of_status(method, response, content, session)
        try:
            value = read(lenient_json.read(content, charsets.of(response.headers.get("Content-Type", ""))))
        except ValueError:
            raise call_errors.of_fault(method, NoResponse.UNREADABLE, response) from None
        return Response(value, response.status_code, call_errors.request_id_of(response), exchange.sent_at)

    def _exchange(
        self,
        exchange: Exchange,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        body: Mapping[str, object] | None,
    ) -> tuple[ThreadSession, requests.Response, bytes | Oversized]:
        data = None if body is None else lenient_json.dumps(body).encode()
        with self._slot or nullcontext():
            exchange.deadline = time.monotonic() + self.connection.timeout  # Waiting for the slot does not count.
            session = session_of(self.connection)
            with session.send(exchange, method, path, params, data) as response:
                try:
                    return session, response, read_content(response)
                except Oversized as oversized:
                    return session, response, oversized


def _id(body: object) -> str:
    if not isinstance(body, Mapping) or not isinstance(body.get("id"), str):
        raise Unreadable("The response has no id.")
    return str(body["id"])


def _named(body: object) -> tuple[str, ...]:
    """The ids of a list's items, without those that have none."""
    ids = [item.get("id") for item in _items(body) if isinstance(item, Mapping)]
    return tuple(id for id in ids if isinstance(id, str))


def _items(body: object) -> list[object]:
    data = body.get("data") if isinstance(body, Mapping) else None
    if data is None and isinstance(body, Mapping) and "data" in body:
        return []  # Go encodes a nil slice as null.
    if not isinstance(data, list):
        raise Unreadable("The response is not a list.")
    return data
