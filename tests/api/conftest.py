"""Who speaks to the API: a client per person, signed in with a token of theirs."""

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from runsadmin.services import tokens


class Api(APIClient):
    """Speaks JSON to /api/v1/; `answer.json()` is what came back."""

    def generic(self, method: str, path: str, *args: Any, **extra: Any) -> Any:
        return super().generic(method, path if path.startswith("/") else f"/api/v1/{path}", *args, **extra)


@pytest.fixture
def api() -> Callable[..., Api]:
    """A client that shows a token of this user; without a user, one that shows none."""

    def api(user: User | None = None) -> Api:
        client = Api(raise_request_exception=False)
        client.default_format = "json"
        if user is not None:
            client.credentials(HTTP_AUTHORIZATION=f"Token {tokens.create(user=user, expires_in=dt.timedelta(hours=1))}")
        return client

    return api
