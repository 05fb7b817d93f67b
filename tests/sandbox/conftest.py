from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.sandbox_client import Sandbox


class Api:
    """A client of the sandbox's API, with the key."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["Authorization"] = f"Bearer {sandbox.key}"

    def call(self, method: str, path: str, **more: Any) -> requests.Response:
        more = {"timeout": 10, "allow_redirects": False} | more
        return self.session.request(method, self._sandbox.url + path, **more)

    def get(self, path: str, **params: Any) -> requests.Response:
        return self.call("GET", path, params=params)

    def post(self, path: str, json: Any = None, **more: Any) -> requests.Response:
        return self.call("POST", path, json=json, **more)

    def modify(self, run: dict[str, Any], metadata: Any) -> requests.Response:
        return self.post(f"/threads/{run['thread_id']}/runs/{run['id']}", {"metadata": metadata})

    def read(self, run: dict[str, Any]) -> requests.Response:
        return self.get(f"/threads/{run['thread_id']}/runs/{run['id']}")


@pytest.fixture(scope="session")
def sandbox_process() -> Iterator[Sandbox]:
    sandbox = Sandbox.start()
    yield sandbox
    sandbox.stop()


@pytest.fixture
def sandbox(sandbox_process: Sandbox) -> Sandbox:
    sandbox_process.reset()
    return sandbox_process


@pytest.fixture
def api(sandbox: Sandbox) -> Iterator[Api]:
    api = Api(sandbox)
    yield api
    api.session.close()


def error_of(response: requests.Response) -> dict[str, Any]:
    """The error of the response. Asserts that it has exactly the four documented members."""
    error: dict[str, Any] = response.json()["error"]
    assert response.json().keys() == {"error"}
    assert error.keys() == {"message", "type", "param", "code"}
    return error
