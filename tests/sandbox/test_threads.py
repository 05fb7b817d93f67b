from typing import Any

import pytest

from tests.sandbox.conftest import Api, error_of
from tests.sandbox_client import Sandbox, make_run


def test_thread_is_created_modified_and_deleted(api: Api) -> None:
    thread = api.post("/threads", {"metadata": {"channel": "mail"}}).json()
    assert thread["id"].startswith("thread_")
    assert len(thread["id"]) == len("thread_") + 24
    assert thread.keys() == {"id", "object", "created_at", "metadata", "tool_resources"}

    path = f"/threads/{thread['id']}"
    changed = api.post(path, {"metadata": {"channel": "chat"}}).json()
    assert changed == thread | {"metadata": {"channel": "chat"}}
    assert api.get(path).json() == changed

    assert api.call("DELETE", path).json() == {"id": thread["id"], "object": "thread.deleted", "deleted": True}
    response = api.get(path)
    assert response.status_code == 404
    assert error_of(response)["message"] == f"No thread found with id '{thread['id']}'."


def test_thread_is_created_without_a_body(api: Api) -> None:
    assert api.post("/threads").json()["metadata"] == {}


def test_too_long_metadata_value_is_refused(api: Api) -> None:
    response = api.post("/threads", {"metadata": {"k": "v" * 513}})
    assert response.status_code == 400
    assert error_of(response)["code"] == "string_above_max_length"
    assert api.get("/threads").json()["data"] == []


def test_thread_and_run_are_created_together(api: Api) -> None:
    thread = {"messages": [{"role": "user", "content": "Hello"}], "metadata": {"channel": "mail"}}
    body = {"assistant_id": "asst_a", "thread": thread, "metadata": {"team": "blue"}, "model": "gpt-4o-mini"}
    response = api.post("/threads/runs", body)
    run = response.json()
    assert (response.status_code, run["object"], run["status"], run["model"]) == (
        200,
        "thread.run",
        "queued",
        "gpt-4o-mini",
    )
    assert (run["assistant_id"], run["metadata"], run["tool_resources"]) == ("asst_a", {"team": "blue"}, {})
    assert run["expires_at"] == run["created_at"] + 600

    created = api.get(f"/threads/{run['thread_id']}").json()
    assert (created["object"], created["metadata"]) == ("thread", {"channel": "mail"})
    assert [listed["id"] for listed in api.get(f"/threads/{run['thread_id']}/runs").json()["data"]] == [run["id"]]
    assert api.read(run).json()["metadata"] == {"team": "blue"}


@pytest.mark.parametrize("thread", [{}, {"thread": None}, {"thread": {}}], ids=["absent", "null", "empty"])
def test_run_is_created_with_an_empty_thread(api: Api, thread: dict[str, Any]) -> None:
    run = api.post("/threads/runs", {"assistant_id": "asst_a"} | thread).json()
    assert run["metadata"] == api.get(f"/threads/{run['thread_id']}").json()["metadata"] == {}


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({}, "missing_required_parameter", "assistant_id"),
        ({"assistant_id": 7}, "invalid_type", "assistant_id"),
        ({"assistant_id": "a", "thread": "b"}, "invalid_type", "thread"),
        ({"assistant_id": "a", "thread": {"id": "b"}}, "unknown_parameter", "thread.id"),
        ({"assistant_id": "a", "thread": {"metadata": {"k": 1}}}, "invalid_type", "metadata.k"),
        ({"assistant_id": "a", "metadata": {"k": "v" * 513}}, "string_above_max_length", "metadata.k"),
        ({"assistant_id": "a", "max_prompt_tokens": 5}, "integer_below_min_value", "max_prompt_tokens"),
        ({"assistant_id": "a", "additional_messages": []}, "unknown_parameter", "additional_messages"),
        ({"assistant_id": "a", "stream": True}, None, "stream"),
    ],
)
def test_refused_request_creates_nothing(api: Api, body: dict[str, Any], code: str | None, param: str) -> None:
    response = api.post("/threads/runs", body)
    assert response.status_code == 400
    error = error_of(response)
    assert (error["code"], error["param"]) == (code, param)
    assert api.get("/threads").json()["data"] == []


def test_creation_with_run_needs_api_key_and_post(api: Api) -> None:
    assert api.post("/threads/runs", {"assistant_id": "a"}, headers={"Authorization": "Bearer x"}).status_code == 401
    response = api.get("/threads/runs")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")


def test_deleting_a_thread_deletes_its_runs(sandbox: Sandbox, api: Api) -> None:
    run, other = make_run(thread_id="thread_a"), make_run(thread_id="thread_b")
    sandbox.put_runs([run, other])
    api.call("DELETE", "/threads/thread_a")
    assert sandbox.runs() == {other["id"]: other}


def test_threads_are_listed_in_pages(api: Api) -> None:
    ids = [api.post("/threads").json()["id"] for _ in range(3)]
    page = api.get("/threads", limit=2, order="asc").json()
    assert [thread["id"] for thread in page["data"]] == ids[:2]
    assert page["has_more"] is True
    rest = api.get("/threads", limit=2, order="asc", after=page["last_id"]).json()
    assert [thread["id"] for thread in rest["data"]] == ids[2:]


def test_listing_threads_can_be_disabled(sandbox: Sandbox, api: Api) -> None:
    sandbox.settings(lists_threads=False)
    response = api.get("/threads")
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
    assert api.post("/threads").status_code == 200
