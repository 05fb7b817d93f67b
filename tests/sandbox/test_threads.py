from tests.sandbox.conftest import Api, error_of
from tests.sandbox_client import Sandbox, make_run


def test_a_thread_is_created_read_modified_and_deleted(api: Api) -> None:
    thread = api.post("/threads", {"metadata": {"channel": "mail"}}).json()
    assert thread["id"].startswith("thread_")
    assert len(thread["id"]) == len("thread_") + 24
    assert thread.keys() == {"id", "object", "created_at", "metadata", "tool_resources"}

    path = f"/threads/{thread['id']}"
    changed = api.post(path, {"metadata": {"channel": "chat"}}).json()
    assert changed == thread | {"metadata": {"channel": "chat"}}
    assert api.get(path).json() == changed

    assert api.call("DELETE", path).json() == {"id": thread["id"], "object": "thread.deleted", "deleted": True}
    answer = api.get(path)
    assert answer.status_code == 404
    assert error_of(answer)["message"] == f"No thread found with id '{thread['id']}'."


def test_a_thread_is_created_without_a_body(api: Api) -> None:
    assert api.post("/threads").json()["metadata"] == {}


def test_a_thread_with_too_long_a_value_is_refused(api: Api) -> None:
    answer = api.post("/threads", {"metadata": {"k": "v" * 513}})
    assert answer.status_code == 400
    assert error_of(answer)["code"] == "string_above_max_length"
    assert api.get("/threads").json()["data"] == []


def test_a_deleted_thread_takes_its_runs_with_it(sandbox: Sandbox, api: Api) -> None:
    run, other = make_run(thread_id="thread_a"), make_run(thread_id="thread_b")
    sandbox.put_runs([run, other])
    api.call("DELETE", "/threads/thread_a")
    assert sandbox.runs() == {other["id"]: other}


def test_threads_are_listed_in_pages(api: Api) -> None:
    made = [api.post("/threads").json()["id"] for _ in range(3)]
    page = api.get("/threads", limit=2, order="asc").json()
    assert [thread["id"] for thread in page["data"]] == made[:2]
    assert page["has_more"] is True
    rest = api.get("/threads", limit=2, order="asc", after=page["last_id"]).json()
    assert [thread["id"] for thread in rest["data"]] == made[2:]


def test_an_upstream_that_lists_no_threads_refuses_the_method(sandbox: Sandbox, api: Api) -> None:
    sandbox.settings(lists_threads=False)
    answer = api.get("/threads")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert api.post("/threads").status_code == 200
