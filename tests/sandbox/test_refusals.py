import pytest
import requests

from tests.sandbox.conftest import Api, error_of
from tests.sandbox_client import Sandbox, make_run

RUN_PATH = "/threads/thread_a/runs/run_a"


@pytest.fixture(autouse=True)
def two_runs(sandbox: Sandbox) -> None:
    sandbox.put_runs([make_run(id="run_a", thread_id="thread_a"), make_run(id="run_b", thread_id="thread_b")])


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "sandbox-key"}, {"Authorization": "Basic sandbox-key"}, {"Authorization": "Bearer "}],
)
def test_missing_key_is_refused(sandbox: Sandbox, headers: dict[str, str]) -> None:
    response = requests.get(sandbox.url + RUN_PATH, headers=headers, timeout=5)
    assert response.status_code == 401
    error = error_of(response)
    assert error["message"].startswith("You didn't provide an API key.")
    assert (error["type"], error["code"]) == ("invalid_request_error", None)


def test_wrong_key_changes_nothing(sandbox: Sandbox) -> None:
    headers = {"Authorization": "Bearer guess"}
    response = requests.post(sandbox.url + RUN_PATH, json={"metadata": {"a": "b"}}, headers=headers, timeout=5)
    assert response.status_code == 401
    assert error_of(response)["code"] == "invalid_api_key"
    assert "guess" not in response.text
    assert sandbox.metadata("run_a") == {}


def test_key_can_be_in_another_header(sandbox: Sandbox, api: Api) -> None:
    sandbox.settings(auth="api-key")
    assert api.get(RUN_PATH).status_code == 401
    response = requests.get(sandbox.url + RUN_PATH, headers={"api-key": sandbox.key}, timeout=5)
    assert response.status_code == 200


def test_key_can_be_changed_and_removed(sandbox: Sandbox, api: Api) -> None:
    sandbox.settings(api_key="another")
    assert api.get(RUN_PATH).status_code == 401
    sandbox.settings(api_key=None)
    assert requests.get(sandbox.url + RUN_PATH, timeout=5).status_code == 200


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/threads/thread_x/runs/run_a", "No thread found with id 'thread_x'."),
        ("/threads/thread_x/runs", "No thread found with id 'thread_x'."),
        ("/threads/thread_a/runs/run_x", "No run found with id 'run_x'."),
        ("/threads/thread_a/runs/run_b", "No run found with id 'run_b'."),
        ("/threads/thread_a/runs/run_x/steps", "No run found with id 'run_x'."),
        ("/threads/thread_a/runs/it's%2Fodd", "No run found with id 'it's/odd'."),
    ],
)
def test_missing_object_is_not_found(api: Api, path: str, message: str) -> None:
    response = api.get(path)
    assert response.status_code == 404
    assert error_of(response) == {
        "message": message,
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }


def test_unknown_url_is_not_found(api: Api) -> None:
    response = api.get("/assistants")
    assert response.status_code == 404
    assert error_of(response)["message"] == "Invalid URL (GET /v1/assistants)"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", RUN_PATH, "GET, POST"),
        ("DELETE", RUN_PATH, "GET, POST"),
        ("HEAD", RUN_PATH, "GET, POST"),
        ("GET", RUN_PATH + "/cancel", "POST"),
        ("POST", RUN_PATH + "/steps", "GET"),
    ],
)
def test_wrong_method_lists_the_allowed_ones(api: Api, method: str, path: str, allowed: str) -> None:
    response = api.call(method, path)
    assert response.status_code == 405
    assert response.headers["allow"] == allowed
    assert api.get(RUN_PATH).status_code == 200  # The connection can still be used.


@pytest.mark.parametrize("body", [b"{", b"metadata=1", b'{"metadata": {"a": "\\ud800"}}', b"\xff\xfe", b'{"a": NaN}'])
def test_malformed_json_is_refused(sandbox: Sandbox, api: Api, body: bytes) -> None:
    response = api.call("POST", RUN_PATH, data=body)
    assert response.status_code == 400
    assert error_of(response)["message"].startswith("We could not parse the JSON body of your request.")
    assert sandbox.log()[-1]["kept"] is False


@pytest.mark.parametrize("body", [b"[]", b'"text"', b"null", b"7"])
def test_json_must_be_an_object(api: Api, body: bytes) -> None:
    response = api.call("POST", RUN_PATH, data=body)
    assert response.status_code == 400
    assert error_of(response)["code"] == "invalid_type"


def test_large_body_keeps_the_connection(sandbox: Sandbox, api: Api) -> None:
    response = api.post(RUN_PATH, {"metadata": {"a": "x" * 2_000_000}})
    assert response.status_code == 413
    assert error_of(response)["type"] == "invalid_request_error"
    assert api.get(RUN_PATH).json()["metadata"] == {}


def test_retired_upstream_returns_404(sandbox: Sandbox, api: Api) -> None:
    sandbox.settings(not_found_for_all=True)
    assert api.get("/threads").status_code == 404
    assert api.get(RUN_PATH).status_code == 404
    response = requests.post(sandbox.url + RUN_PATH, json={"metadata": {}}, timeout=5)
    assert response.status_code == 404
    assert "found with id" not in error_of(response)["message"]


def test_moved_upstream_redirects_everything(sandbox: Sandbox, api: Api) -> None:
    sandbox.settings(redirect_to="http://127.0.0.1:9/elsewhere")
    response = api.get(RUN_PATH)
    assert response.status_code == 302
    assert response.headers["location"] == "http://127.0.0.1:9/elsewhere"


def test_rate_limit_can_be_set(sandbox: Sandbox, api: Api) -> None:
    sandbox.settings(requests_per_minute=20, retry_after="7")
    assert [api.get(RUN_PATH).status_code for _ in range(3)] == [200, 429, 429]
    response = api.get(RUN_PATH)
    assert response.headers["retry-after"] == "7"
    assert error_of(response)["code"] == "rate_limit_exceeded"
    sandbox.settings(retry_after=None)
    assert "retry-after" not in api.get(RUN_PATH).headers
    sandbox.settings(requests_per_minute=None)
    assert api.get(RUN_PATH).status_code == 200


def test_latency_is_added_to_each_call(sandbox: Sandbox, api: Api) -> None:
    sandbox.settings(latency_ms=200)
    assert api.get(RUN_PATH).elapsed.total_seconds() >= 0.2
    sandbox.settings(latency_ms=0)
    assert api.get(RUN_PATH).elapsed.total_seconds() < 0.2
