import time

import pytest
import requests

from tests.sandbox.conftest import Api
from tests.sandbox_client import Sandbox, make_run


def test_log_has_requests_and_responses(sandbox: Sandbox, api: Api) -> None:
    sandbox.put_runs([run := make_run(id="run_a", thread_id="thread_a")])
    before = time.time()
    response = api.modify(run, {"team": "red"})
    after = time.time()
    api.get("/threads/thread_a/runs", limit=5, after="run_a")

    post, get = sandbox.log()
    assert before <= post["at"] <= post["received_at"] <= after + 0.1
    assert {name: post[name] for name in post if name not in ("n", "at", "received_at", "headers")} == {
        "method": "POST",
        "path": "/v1/threads/thread_a/runs/run_a",
        "query": {},
        "body": {"metadata": {"team": "red"}},
        "status": 200,
        "request_id": response.headers["x-request-id"],
        "fault": None,
        "kept": True,
    }
    assert get["query"] == {"limit": "5", "after": "run_a"}
    assert (get["body"], get["kept"], get["status"]) == (None, False, 200)
    assert sandbox.posts() == sandbox.posts("run_a") == [post]
    assert sandbox.gets() == [get]
    assert sandbox.gets("run_a") == []


def test_log_names_the_fault(sandbox: Sandbox, api: Api) -> None:
    sandbox.fault("status", status=503)
    api.get("/threads")
    assert [(entry["fault"], entry["status"]) for entry in sandbox.log()] == [("status", 503)]


def test_request_is_logged_before_its_response(sandbox: Sandbox, api: Api) -> None:
    sandbox.fault("hang")
    with pytest.raises(requests.ReadTimeout):
        api.call("GET", "/threads", timeout=0.1)
    assert [(entry["status"], entry["received_at"]) for entry in sandbox.log()] == [(None, None)]


def test_log_can_be_read_in_parts_and_cleared(sandbox: Sandbox, api: Api) -> None:
    for _ in range(3):
        api.get("/threads")
    first, second, third = sandbox.log()
    assert sandbox.log(after=first["n"]) == [second, third]
    assert sandbox.control("GET", "log", after=third["n"]) == {"requests": [], "last": third["n"]}
    sandbox.clear_log()
    assert sandbox.log() == []
    api.get("/threads")
    assert [entry["n"] for entry in sandbox.log(after=third["n"])] == [third["n"] + 1]


def test_log_contains_no_secret(sandbox: Sandbox) -> None:
    headers = {
        "api-key": "secret-a",
        "Cookie": "secret-b",
        "X-Anything": "secret-c",
        "OpenAI-Beta": "assistants=v2",
        "OpenAI-Project": "proj_1",
    }
    for authorization in ("Bearer secret-d", "secret-e"):
        requests.get(f"{sandbox.url}/threads", headers=headers | {"Authorization": authorization}, timeout=5)
    first, second = sandbox.log()
    assert "secret" not in str([first, second])
    assert first["headers"]["authorization"] == "Bearer"
    assert first["headers"]["openai-beta"] == "assistants=v2"
    assert first["headers"]["openai-project"] == "proj_1"


def test_log_shows_a_non_json_body_as_text(sandbox: Sandbox, api: Api) -> None:
    api.call("POST", "/threads", data=b"{nonsense")
    assert sandbox.log()[0]["body"] == "{nonsense"


def test_control_calls_are_not_logged(sandbox: Sandbox) -> None:
    sandbox.seed(threads=1, runs=1)
    sandbox.runs()
    assert sandbox.log() == []
