import time

import pytest

from tests.sandbox.conftest import Api, error_of
from tests.sandbox_client import Sandbox, make_run

STATUSES = (
    "queued",
    "in_progress",
    "requires_action",
    "cancelling",
    "cancelled",
    "failed",
    "completed",
    "incomplete",
    "expired",
)


def test_run_is_returned_as_stored(sandbox: Sandbox, api: Api) -> None:
    """The example Run of the vendor's documentation, with an undocumented field."""
    run = make_run(
        id="run_abc123",
        thread_id="thread_abc123",
        instructions=None,
        tools=[{"type": "code_interpreter"}],
        tool_resources={"code_interpreter": {"file_ids": ["file-abc123", "file-abc456"]}},
        usage={"prompt_tokens": 123, "completion_tokens": 456, "total_tokens": 579},
        server_version=1.5,
    )
    sandbox.put_runs([run])
    assert len(make_run()) == 27
    assert api.read(run).json() == run
    assert api.get("/threads/thread_abc123/runs").json()["data"] == [run]


def test_responses_have_request_id_and_time(sandbox: Sandbox, api: Api) -> None:
    sandbox.put_runs([run := make_run()])
    first, second = api.read(run), api.read(run)
    assert first.headers["x-request-id"].startswith("req_")
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert int(first.headers["openai-processing-ms"]) >= 0
    assert first.headers["content-type"] == "application/json"


def test_modification_replaces_only_metadata(sandbox: Sandbox, api: Api) -> None:
    sandbox.put_runs([run := make_run(metadata={"team": "blue", "old": "1"})])
    response = api.modify(run, {"team": "red", "größe": "🙂", "empty": ""})
    assert response.status_code == 200
    assert response.json() == run | {"metadata": {"team": "red", "größe": "🙂", "empty": ""}}
    assert sandbox.run(run["id"]) == response.json()
    assert api.modify(run, {}).json()["metadata"] == {}


@pytest.mark.parametrize("body", [{"metadata": None}, {}])
def test_modification_without_metadata_changes_nothing(sandbox: Sandbox, api: Api, body: object) -> None:
    sandbox.put_runs([run := make_run(metadata={"team": "blue"})])
    assert api.post(f"/threads/{run['thread_id']}/runs/{run['id']}", body).json() == run


def test_only_metadata_can_be_modified(sandbox: Sandbox, api: Api) -> None:
    sandbox.put_runs([run := make_run()])
    path = f"/threads/{run['thread_id']}/runs/{run['id']}"
    response = api.post(path, {"metadata": {"team": "red"}, "status": "failed"})
    assert response.status_code == 400
    assert error_of(response)["message"] == "Unknown parameter: 'status'."
    assert sandbox.run(run["id"]) == run


@pytest.mark.parametrize("status", STATUSES)
def test_active_runs_cannot_be_modified(sandbox: Sandbox, api: Api, status: str) -> None:
    sandbox.put_runs([run := make_run(status=status)])
    response = api.modify(run, {"team": "red"})
    if status in ("queued", "in_progress"):
        assert response.status_code == 400
        assert error_of(response) == {
            "message": f"Cannot update run with status '{status}'.",
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        }
        assert sandbox.metadata(run["id"]) == {}
    else:
        assert response.json()["metadata"] == {"team": "red"}


def test_new_run_is_queued(sandbox: Sandbox, api: Api) -> None:
    thread = api.post("/threads").json()["id"]
    options = {"assistant_id": "asst_a", "metadata": {"team": "blue"}, "temperature": 0.3, "max_prompt_tokens": 256}
    run = api.post(f"/threads/{thread}/runs", options).json()
    assert run.keys() == make_run().keys()
    assert run["status"] == "queued"
    assert run["metadata"] == {"team": "blue"}
    assert run["temperature"] == 0.3
    assert run["usage"] is None
    assert run["started_at"] is None
    assert sandbox.run(run["id"]) == run


def test_run_needs_assistant_and_valid_options(api: Api) -> None:
    path = f"/threads/{api.post('/threads').json()['id']}/runs"
    assert error_of(api.post(path, {}))["message"] == "Missing required parameter: 'assistant_id'."
    assert error_of(api.post(path, {"assistant_id": 7}))["code"] == "invalid_type"
    too_few_tokens = api.post(path, {"assistant_id": "asst_a", "max_completion_tokens": 255})
    assert error_of(too_few_tokens)["code"] == "integer_below_min_value"
    assert error_of(api.post(path, {"assistant_id": "asst_a", "color": "red"}))["code"] == "unknown_parameter"
    assert api.get(path).json()["data"] == []


def test_only_active_runs_are_cancelled(sandbox: Sandbox, api: Api) -> None:
    active, ended = make_run(status="in_progress"), make_run(status="completed")
    sandbox.put_runs([active, ended])
    path = f"/threads/{active['thread_id']}/runs"
    assert api.post(f"{path}/{active['id']}/cancel").json()["status"] == "cancelling"
    response = api.post(f"{path}/{ended['id']}/cancel")
    assert response.status_code == 400
    assert error_of(response)["message"] == "Cannot cancel run with status 'completed'."


def test_runs_do_not_advance_if_configured(sandbox: Sandbox) -> None:
    sandbox.settings(advance_runs=False, pace=0)
    sandbox.put_runs([run := make_run(status="queued")])
    time.sleep(0.3)
    assert sandbox.run(run["id"]) == run


def test_runs_end_by_themselves(sandbox: Sandbox, api: Api) -> None:
    sandbox.settings(advance_runs=True, pace=0.01)
    thread = api.post("/threads").json()["id"]
    run = api.post(f"/threads/{thread}/runs", {"assistant_id": "asst_a"}).json()
    cancelling, waiting = make_run(status="cancelling"), make_run(status="requires_action")
    sandbox.put_runs([cancelling, waiting])

    statuses = [run["status"]]
    deadline = time.monotonic() + 15
    while statuses[-1] != "completed" and time.monotonic() < deadline:
        current = api.read(run).json()
        if current["status"] != statuses[-1]:
            statuses.append(current["status"])
    assert statuses == ["queued", "in_progress", "completed"]
    assert current["created_at"] <= current["started_at"] <= current["completed_at"]
    assert current["usage"]["total_tokens"] > 0
    while sandbox.run(cancelling["id"])["status"] != "cancelled":
        assert time.monotonic() < deadline
    assert sandbox.run(cancelling["id"])["cancelled_at"] is not None
    assert sandbox.run(waiting["id"]) == waiting


def test_run_steps_are_listed_and_read(sandbox: Sandbox, api: Api) -> None:
    tools = [{"type": "code_interpreter"}, {"type": "function", "function": {"name": "look_up"}}]
    run = make_run(created_at=1_700_000_000, tools=tools)
    failed = make_run(status="failed", tools=tools, last_error={"code": "server_error", "message": "Sorry."})
    queued = make_run(status="queued", tools=tools)
    sandbox.put_runs([run, failed, queued])

    path = f"/threads/{run['thread_id']}/runs"
    steps = api.get(f"{path}/{run['id']}/steps", order="asc").json()["data"]
    assert [step["type"] for step in steps] == ["tool_calls", "tool_calls", "message_creation"]
    assert {step["run_id"] for step in steps} == {run["id"]}
    assert steps[-1]["completed_at"] == run["completed_at"]
    newest = api.get(f"{path}/{run['id']}/steps", limit=1).json()
    assert newest["data"] == steps[-1:]
    assert newest["has_more"] is True
    assert api.get(f"{path}/{run['id']}/steps/{steps[0]['id']}").json() == steps[0]
    assert api.get(f"{path}/{run['id']}/steps/step_unknown").status_code == 404

    assert [step["status"] for step in api.get(f"{path}/{failed['id']}/steps").json()["data"]] == [
        "failed",
        "completed",
    ]
    assert api.get(f"{path}/{queued['id']}/steps").json()["data"] == []
