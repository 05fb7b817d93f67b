"""The settings of this app, read at each call. docs/operations.md describes them."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta

from django.conf import settings

from runsadmin.errors import ReadOnlyConnection, UnknownConnection

UPSTREAM, ARCHIVE = KINDS = ("upstream", "archive")


@dataclass(frozen=True)
class Connection:
    """A configured upstream, or an archive: runs of a service that is gone. Its repr does not contain the key."""

    alias: str
    url: str
    api_key: str = field(repr=False)
    auth: str
    api_version: str
    organization: str
    project: str
    connect_timeout: float
    read_timeout: float
    concurrency: int
    requests_per_minute: int
    azure_scope: str = ""
    missing_metadata_is_empty: bool = False
    lists_are_fresh: bool = False
    kind: str = UPSTREAM

    @property
    def is_archive(self) -> bool:
        return self.kind == ARCHIVE

    def setting(self, name: str) -> str:
        """The name of the environment variable for an option of this connection."""
        alias = "" if self.alias == "default" else f"{self.alias.upper()}_"
        return f"RUNSADMIN_UPSTREAM_{alias}{name}"

    @property
    def interval(self) -> timedelta:
        """The time between two requests at the full rate."""
        return timedelta(minutes=1) / self.requests_per_minute

    @property
    def timeout(self) -> timedelta:
        """The maximum duration of one request, from connecting to the last byte."""
        return timedelta(seconds=self.connect_timeout + self.read_timeout)


def connections() -> dict[str, Connection]:
    return {alias: _connection(alias, options) for alias, options in settings.RUNSADMIN_CONNECTIONS.items()}


def connection(alias: str) -> Connection:
    try:
        return _connection(alias, settings.RUNSADMIN_CONNECTIONS[alias])
    except KeyError:
        known = ", ".join(settings.RUNSADMIN_CONNECTIONS)
        raise UnknownConnection(f"There is no connection {alias!r}. Use one of: {known}.") from None


def upstreams() -> dict[str, Connection]:
    """The connections that have an upstream: all but the archives."""
    return {alias: connection for alias, connection in connections().items() if not connection.is_archive}


def upstream(alias: str) -> Connection:
    """A connection that has an upstream. Raises UnknownConnection, or ReadOnlyConnection if it is an archive."""
    found = connection(alias)
    if found.is_archive:
        raise ReadOnlyConnection(why_read_only(alias))
    return found


def why_read_only(alias: str) -> str:
    """Why nothing can be sent on this connection, as a sentence. Empty if it has an upstream."""
    found = connections().get(alias)
    if found is None:
        return (
            f"The connection {alias!r} is not configured: its runs can be read and exported, but not edited, refreshed,"
            " synced or tracked until it is configured with an upstream again."
        )
    if found.is_archive:
        return (
            f"The connection {alias!r} is an archive: its runs can be read, but not edited, refreshed, synced or"
            " tracked. Only import_runs adds runs to it."
        )
    return ""


def archives() -> list[str]:
    """The aliases of the archives."""
    return [alias for alias, connection in connections().items() if connection.is_archive]


def default_connection() -> str | None:
    """The only alias configured, or None if there are several."""
    return _the_only(connections())


def default_upstream() -> str | None:
    """The alias to use if none is named: the only one that has an upstream, or None if there are several."""
    return _the_only(upstreams())


def _the_only(aliases: Iterable[str]) -> str | None:
    match list(aliases):
        case [alias]:
            return alias
    return None


def _connection(alias: str, options: dict[str, object]) -> Connection:
    return Connection(alias, **{name.lower(): value for name, value in options.items()})  # type: ignore[arg-type]


def hold() -> bool:
    """Whether RUNSADMIN_HOLD stops all sending."""
    return bool(settings.RUNSADMIN_HOLD)


def push_wait() -> float:
    """How many seconds a web request waits for the push of one edit."""
    return float(settings.RUNSADMIN_PUSH_WAIT)


def max_attempts() -> int:
    return int(settings.RUNSADMIN_MAX_ATTEMPTS)


def settling_time() -> timedelta:
    """How long after the timeouts a write whose response was lost may still take effect."""
    return timedelta(seconds=settings.RUNSADMIN_SETTLING_TIME)


def active_run_wait() -> timedelta:
    """How long an edit still waits for an active run after the run's `expires_at`."""
    return timedelta(seconds=settings.RUNSADMIN_ACTIVE_RUN_WAIT)


def plan_lifetime() -> timedelta:
    """How long a complete plan can be applied."""
    return timedelta(seconds=settings.RUNSADMIN_PLAN_LASTS)


def sync_every() -> timedelta:
    return timedelta(seconds=settings.RUNSADMIN_SYNC_EVERY)


def full_sync_every() -> timedelta:
    return timedelta(seconds=settings.RUNSADMIN_FULL_SYNC_EVERY)


def api_requests_per_minute() -> int:
    """The rate limit of one account in the REST API. 0 means no limit."""
    return int(settings.RUNSADMIN_API_REQUESTS_PER_MINUTE)


def api_rate_file() -> str:
    """The SQLite file in which the processes of this machine count the requests of the REST API."""
    return str(settings.RUNSADMIN_API_RATE_FILE)


def export_folder() -> str:
    """Where workers write the files of exports."""
    return str(settings.RUNSADMIN_EXPORT_FOLDER)


def export_lifetime() -> timedelta:
    """How long the file of an export can be downloaded."""
    return timedelta(seconds=settings.RUNSADMIN_EXPORT_LASTS)


def max_runs_per_thread() -> int:
    """The most runs that a sync reads of one thread, since the pages of a list may never end."""
    return int(settings.RUNSADMIN_MAX_RUNS_PER_THREAD)


def max_response_bytes() -> int:
    return int(settings.RUNSADMIN_MAX_RESPONSE_BYTES)
