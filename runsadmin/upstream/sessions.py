"""HTTP sessions, one per thread and connection."""

import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import requests

from runsadmin import conf
from runsadmin.errors import ConnectionHeld
from runsadmin.upstream import auth, configuration
from runsadmin.upstream.deadline_connection import DeadlineAdapter, Exchange


class ThreadSession:
    """One thread's session with a connection. What all requests share is prepared once."""

    def __init__(self, connection: conf.Connection) -> None:
        """Raises ConnectionHeld if a setting cannot be sent: an error from `requests` would quote it."""
        for mistake in configuration.mistakes(connection):
            raise ConnectionHeld(str(mistake))
        self.connection = connection
        self._url = connection.url.rstrip("/")
        self._auth = auth.of(connection)
        self._session = requests.Session()
        self._session.auth = self._auth  # Otherwise a netrc file would be used.
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
        # Proxies and certificates from the environment.
        self._options: Any = self._session.merge_environment_settings(self._url, {}, True, None, None)
        self._adapter = DeadlineAdapter()

    def send(
        self, exchange: Exchange, method: str, path: str, params: Mapping[str, str] | None, body: bytes | None
    ) -> requests.Response:
        """The response, with only its head read. Does not follow redirects."""
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
        return self._adapter.send_within(exchange, self._auth(request), timeout=timeout, **self._options)

    @property
    def secret(self) -> str:
        """The last key or token sent."""
        return self._auth.secret

    def close(self) -> None:
        self._adapter.close()
        self._session.close()


_sessions = threading.local()


def session_of(connection: conf.Connection) -> ThreadSession:
    """This thread's session. One per configuration, so that a corrected key is used at once."""
    sessions: dict[conf.Connection, ThreadSession] = _sessions.__dict__.setdefault("by_connection", {})
    if connection not in sessions:
        for stale in [known for known in sessions if known.alias == connection.alias]:
            sessions.pop(stale).close()
        sessions[connection] = ThreadSession(connection)
    return sessions[connection]


def _extra_query(connection: conf.Connection) -> dict[str, str]:
    return {"api-version": connection.api_version} if connection.api_version else {}
