"""Who speaks to the API: a client per person, who shows a token of theirs."""

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from runsadmin import lenient_json
from runsadmin.services import tokens

JSON = "application/json"


class Api:
    """Speaks JSON to /api/v1/. Whole addresses, as answers hold them, are taken as well."""

    def __init__(self, token: str | None = None) -> None:
        self._client = Client(raise_request_exception=False)
        self._headers = {} if token is None else {"Authorization": f"Token {token}"}

    def call(self, method: str, path: str, body: Any = None, kind: str = JSON, **headers: str) -> Any:
        """`body` is sent as JSON, or as it is when it is bytes. A header If-Match is given as `If_Match`."""
        data = b"" if body is None else body if isinstance(body, bytes) else lenient_json.dumps(body).encode()
        address = path if path.startswith(("/", "http://")) else f"/api/v1/{path}"
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._client.generic(method, address, data, kind, headers=self._headers | named)

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
    """A client that shows a token of this user; without a user, one that shows none."""

    def api(user: User | None = None) -> Api:
        return Api(None if user is None else tokens.create(user=user, expires_in=dt.timedelta(hours=1)))

    return api


def problem(response: Any, status: int, name: str) -> dict[str, Any]:
    """Asserts that the answer is this problem, whole; returns it."""
    told: dict[str, Any] = response.json()
    assert (response.status_code, told["type"]) == (status, f"urn:runsadmin:problem:{name}"), told
    assert response["Content-Type"] == "application/problem+json"
    assert told["status"] == status
    assert told["title"]
    assert told["detail"]
    return told
