"""Clients of the REST API, each with the token of a user."""

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import FileResponse
from django.test import Client

from runsadmin import lenient_json
from runsadmin.models import Run, Thread
from runsadmin.services import clock, runs, tokens
from runsadmin.services.gateway import TimedResponse
from runsadmin.upstream.records import Response, RunRecord
from tests.conftest import MakeRun
from tests.sandbox_client import make_run

JSON = "application/json"


class Api:
    """Sends JSON to /api/v1/. A path can also be an absolute URL from a response."""

    def __init__(self, token: str | None = None) -> None:
        self._client = Client(raise_request_exception=False)
        self._headers = {} if token is None else {"Authorization": f"Token {token}"}

    def call(self, method: str, path: str, body: Any = None, content_type: str = JSON, **headers: str) -> Any:
        """`body` is sent as JSON, or unchanged if it is bytes. The header If-Match is the argument `If_Match`."""
        if body is None:
            body = b""
        data = body if isinstance(body, bytes) else lenient_json.dumps(body).encode()
        url = path if path.startswith(("/", "http://")) else f"/api/v1/{path}"
        own_headers = {name.replace("_", "-"): value for name, value in headers.items()}
        response: Any = self._client.generic(method, url, data, content_type, headers=self._headers | own_headers)
        if isinstance(response, FileResponse):  # A server reads the file and closes it.
            content = b"".join(response)
            response.close()
            response.streaming_content = [content]
        return response

    def get(self, path: str, **headers: str) -> Any:
        return self.call("GET", path, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        return self.call("POST", path, body, **headers)

    def patch(self, path: str, body: Any, **headers: str) -> Any:
        return self.call("PATCH", path, body, **headers)

    def delete(self, path: str, **headers: str) -> Any:
        return self.call("DELETE", path, **headers)


type ApiOf = Callable[..., Api]


@pytest.fixture
def api() -> ApiOf:
    """Returns a client with a token of the given user or, without a user, a client without a token."""

    def api(user: User | None = None) -> Api:
        return Api(None if user is None else tokens.create(user=user, expires_in=dt.timedelta(hours=1)))

    return api


def problem(response: Any, status: int, name: str) -> dict[str, Any]:
    """Asserts that the response is this problem and has all its members. Returns the problem."""
    data: dict[str, Any] = response.json()
    assert (response.status_code, data["type"]) == (status, f"urn:runsadmin:problem:{name}"), data
    assert response["Content-Type"] == "application/problem+json"
    assert data["status"] == status
    assert data["title"]
    assert data["detail"]
    return data


@pytest.fixture
def run_ids(mirror_run: MakeRun) -> list[str]:
    """The ids of six runs in two threads."""
    return [
        mirror_run(thread_id=f"thread_{n % 2}", metadata={"team": "blue", "n": str(n)}).upstream_id for n in range(6)
    ]


@pytest.fixture
def store(db: None) -> Callable[..., Run]:
    """Stores a run with these API fields directly in the mirror, without a server."""

    def store(alias: str = "default", /, **fields: Any) -> Run:
        return store_response(make_run(**fields), alias)

    return store


def store_response(raw: Any, alias: str = "default") -> Run:
    """Stores a run as a server sent it."""
    thread, _ = Thread.objects.get_or_create(connection=alias, upstream_id=raw.get("thread_id", "thread_1"))
    now = clock.now()
    response = Response(RunRecord.read(raw, thread_id=thread.upstream_id), 200, "req_1", 0.0)
    runs.compare([(thread, TimedResponse(response, now, now))]).write()
    return Run.objects.get(connection=alias, upstream_id=raw["id"])
