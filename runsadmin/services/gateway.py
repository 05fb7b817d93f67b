"""The only way for services to call upstream.

Each call returns a timed response, or raises an UpstreamError, UnknownConnection or ReadOnlyConnection. `effect_of`
says what an error means for the whole connection, as a value that the caller stores with `connections.store_effect`.
Nothing here uses the database, so threads of a pool may call it. A `slot` is held from the start of the request to the
end of the response.
"""

import datetime as dt
from dataclasses import dataclass

from runsadmin import conf
from runsadmin.errors import ConnectionHeld, UpstreamError
from runsadmin.metadata import Metadata
from runsadmin.models import ConnectionState, Thread
from runsadmin.services.clock import ClockBounds
from runsadmin.upstream.client import Client, Slot
from runsadmin.upstream.records import PAGE_SIZE, Page, Response, RunRecord

# How many seconds to back off after a 429 or 503 without a Retry-After.
DEFAULT_BACK_OFF = 1.0

Hold = ConnectionState.Hold


@dataclass(frozen=True)
class TimedResponse[T]:
    """A response, and when it was requested and received according to the database's clock."""

    response: Response[T]
    requested_at: dt.datetime
    received_at: dt.datetime

    @property
    def value(self) -> T:
        return self.response.value

    def with_value[S](self, value: S) -> "TimedResponse[S]":
        """The same response with a different value, such as one run of its page."""
        return TimedResponse(self.response.with_value(value), self.requested_at, self.received_at)


def fetch_run(thread: Thread, run_id: str, clock: ClockBounds, *, slot: Slot | None = None) -> TimedResponse[RunRecord]:
    requested_at = clock.earliest()
    response = _client(thread, slot).retrieve_run(thread.upstream_id, run_id)
    return TimedResponse(response, requested_at, clock.latest())


def fetch_page(
    thread: Thread,
    clock: ClockBounds,
    *,
    after: str = "",
    limit: int = PAGE_SIZE,
    oldest_first: bool = False,
    slot: Slot | None = None,
) -> TimedResponse[Page]:
    """One page of a thread's runs."""
    client, requested_at = _client(thread, slot), clock.earliest()
    response = client.list_runs(thread.upstream_id, after=after, limit=limit, oldest_first=oldest_first)
    return TimedResponse(response, requested_at, clock.latest())


def write_run(
    thread: Thread,
    run_id: str,
    metadata: Metadata,
    send_by: float,
    clock: ClockBounds,
    *,
    slot: Slot | None = None,
) -> TimedResponse[RunRecord]:
    """Sends the whole map. After `send_by` (in time.monotonic()), it raises NotSent instead."""
    requested_at = clock.earliest()
    response = _client(thread, slot).modify_run(thread.upstream_id, run_id, metadata, send_by)
    return TimedResponse(response, requested_at, clock.latest())


def _client(thread: Thread, slot: Slot | None) -> Client:
    connection = conf.upstream(thread.connection)
    return Client(connection, slot=slot)


def fetch_thread_ids(alias: str, *, after: str = "") -> tuple[str, ...]:
    """One page of the ids of a connection's threads. Few servers can list them."""
    return Client(conf.upstream(alias)).list_threads(after=after).value


def probe(alias: str, thread_id: str, run_id: str = "") -> None:
    """Requests a run, or the thread itself if no run is given. Raises UpstreamError."""
    client = Client(conf.upstream(alias))
    if run_id:
        client.retrieve_run(thread_id, run_id)
    else:
        client.retrieve_thread(thread_id)


# --- What an error means for the connection


@dataclass(frozen=True)
class ConnectionEffect:
    """How many seconds to back off, and why to hold the connection. By default, neither applies."""

    back_off: float | None = None
    hold: ConnectionState.Hold = Hold.NONE
    detail: str = ""


NO_EFFECT = ConnectionEffect()


def effect_of(error: UpstreamError, *, is_write: bool = False) -> ConnectionEffect:
    """The effect, as far as one response can show it. How far a 404 or an outage reaches is known only after probes."""
    back_off = None
    if error.slow_down:
        back_off = DEFAULT_BACK_OFF if error.retry_after is None else error.retry_after
    if error.redirect:
        return ConnectionEffect(back_off, Hold.REDIRECTED, why_held(error))
    if isinstance(error, ConnectionHeld):
        # The fetch just before was accepted with the same credentials, so it is the write that is refused.
        return ConnectionEffect(back_off, Hold.WRITING if is_write else Hold.CREDENTIALS, why_held(error))
    return ConnectionEffect(back_off)


def why_held(error: UpstreamError) -> str:
    """The detail of a connection that is held because of this error."""
    if error.redirect or error.http_status is None:  # Without a status, no credentials were sent.
        return str(error)
    return f"The server refuses the credentials ({error.http_status}): {error}"
