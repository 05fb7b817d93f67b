import socket
import time
from typing import Any

import pytest
import requests

from tests.sandbox.conftest import Api
from tests.sandbox_client import Sandbox, make_run


def test_reset_deletes_everything(sandbox: Sandbox, api: Api) -> None:
    before = sandbox.settings()
    sandbox.put_runs([run := make_run()])
    api.read(run)
    sandbox.fault("lose")
    sandbox.settings(modify="merge", latency_ms=1)
    sandbox.reset()
    assert sandbox.runs() == {}
    assert sandbox.log() == []
    assert sandbox.faults() == []
    assert sandbox.settings() == before
    assert api.get("/threads").json()["data"] == []


def test_odd_runs_are_stored_unchanged(sandbox: Sandbox, api: Api) -> None:
    runs: list[dict[str, Any]] = [
        {"id": "bare", "thread_id": "t"},
        make_run(thread_id="t", created_at=1.7e12, metadata=None, extra={"deep": [1, {"a": None}]}),
        make_run(thread_id="t", created_at="yesterday", status="new", metadata={"n": 1, "nul": "\0"}),
        make_run(id="it's/odd?", thread_id="t"),
    ]
    sandbox.put_runs(runs)
    assert list(sandbox.runs("t").values()) == runs
    assert len(api.get("/threads/t/runs").json()["data"]) == 4
    assert api.get("/threads/t/runs/it's%2Fodd%3F").json() == runs[-1]


def test_runs_with_the_same_id_are_replaced(sandbox: Sandbox, api: Api) -> None:
    run = make_run(thread_id="thread_a")
    sandbox.put_runs([run])
    sandbox.put_runs([moved := run | {"thread_id": "thread_b", "status": "failed"}])
    assert sandbox.runs() == {run["id"]: moved}
    assert api.get("/threads/thread_a/runs").json()["data"] == []
    assert api.get("/threads/thread_b/runs").json()["data"] == [moved]


def test_runs_can_be_read_by_thread(sandbox: Sandbox) -> None:
    a, b = make_run(thread_id="thread_a"), make_run(thread_id="thread_b")
    sandbox.put_runs([a, b])
    assert sandbox.runs("thread_b") == {b["id"]: b}
    assert sandbox.runs("thread_c") == {}
    assert sandbox.run(a["id"]) == a


def test_run_can_be_changed_without_log_entry(sandbox: Sandbox, api: Api) -> None:
    sandbox.put_runs([run := make_run(status="in_progress", metadata={"team": "blue"})])
    sandbox.set_metadata(run["id"], {"team": "green"})
    sandbox.change_run(run["id"], status="failed", extra=1)
    assert sandbox.log() == []
    assert api.read(run).json() == run | {"metadata": {"team": "green"}, "status": "failed", "extra": 1}


def test_pairs_can_be_added_without_log_entry(sandbox: Sandbox) -> None:
    sandbox.put_runs([run := make_run(metadata={"team": "blue"}), bare := make_run(metadata=None)])
    before = time.time()
    at = sandbox.add_pairs(run["id"], {"ticket": "OPS-1"})
    assert at is not None
    assert before <= at <= time.time()
    assert sandbox.run(run["id"]) == run | {"metadata": {"team": "blue", "ticket": "OPS-1"}}
    sandbox.add_pairs(bare["id"], {"ticket": "OPS-1"})
    assert sandbox.metadata(bare["id"]) == {"ticket": "OPS-1"}
    assert sandbox.add_pairs("run_unknown", {}) is None
    assert sandbox.log() == []


def test_run_and_thread_can_be_deleted(sandbox: Sandbox, api: Api) -> None:
    a, b = make_run(thread_id="thread_a"), make_run(thread_id="thread_b")
    sandbox.put_runs([a, b])
    sandbox.delete_run(a["id"])
    assert api.read(a).status_code == 404
    assert api.get("/threads/thread_a").status_code == 200
    sandbox.delete_thread("thread_b")
    assert api.read(b).status_code == 404
    assert api.get("/threads/thread_b").status_code == 404
    with pytest.raises(ValueError, match="No run found"):
        sandbox.delete_run(a["id"])
    with pytest.raises(ValueError, match="No run found"):
        sandbox.set_metadata(a["id"], {})
    with pytest.raises(ValueError, match="No thread found"):
        sandbox.delete_thread("thread_b")


@pytest.mark.parametrize("runs", [{}, [7], [{"id": "run_a"}], [{"id": 1, "thread_id": "t"}]])
def test_runs_without_ids_are_refused(sandbox: Sandbox, runs: object) -> None:
    with pytest.raises(ValueError, match="refuses PUT runs"):
        sandbox.control("PUT", "runs", runs)
    assert sandbox.runs() == {}


@pytest.mark.parametrize(
    "changes",
    [{"speed": 1}, {"modify": "maybe"}, {"latency_ms": "5"}, {"check_limits": 1}, {"api_key": 7}, {"pace": True}],
)
def test_invalid_setting_is_refused(sandbox: Sandbox, changes: dict[str, Any]) -> None:
    before = sandbox.settings()
    with pytest.raises(ValueError, match="refuses PATCH settings"):
        sandbox.settings(lists_threads=False, **changes)
    assert sandbox.settings() == before


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "nothing"), ("POST", "runs"), ("POST", "reset/x"), ("GET", "log/1")]
)
def test_unknown_control_call_is_refused(sandbox: Sandbox, method: str, path: str) -> None:
    with pytest.raises(ValueError, match="Invalid URL"):
        sandbox.control(method, path)


def test_control_calls_must_be_json(sandbox: Sandbox) -> None:
    for path in ("faults", "seed"):
        response = requests.post(f"{sandbox.origin}/_sandbox/{path}", data=b"{", timeout=5)
        assert response.status_code == 400


def test_web_page_cannot_control_the_sandbox(sandbox: Sandbox) -> None:
    sandbox.put_runs([make_run()])
    headers = {"Origin": "http://evil.example"}
    response = requests.post(f"{sandbox.origin}/_sandbox/reset", headers=headers, timeout=5)
    assert response.status_code == 403
    assert len(sandbox.runs()) == 1


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8001",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.1@evil.example",
        "evil@localhost",
        "10.0.0.7",
        "0.0.0.0",
        "[::2]",
        "127.0.0.1:80:90",
        "localhost:x",
        "",
    ],
)
@pytest.mark.parametrize(("method", "path"), [("GET", "log"), ("GET", "settings"), ("POST", "reset")])
def test_dns_rebinding_is_refused(sandbox: Sandbox, host: str, method: str, path: str) -> None:
    sandbox.put_runs([make_run()])
    response = requests.request(method, f"{sandbox.origin}/_sandbox/{path}", headers={"Host": host}, timeout=5)
    assert response.status_code == 403
    assert "web pages" in response.json()["error"]["message"]
    assert len(sandbox.runs()) == 1


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8001", "127.0.0.1", "127.9.9.9:1", "[::1]", "[::1]:8001"])
def test_local_host_names_are_accepted(sandbox: Sandbox, host: str) -> None:
    response = requests.get(f"{sandbox.origin}/_sandbox/settings", headers={"Host": host}, timeout=5)
    assert response.status_code == 200


def test_request_without_host_is_refused(sandbox: Sandbox) -> None:
    with socket.create_connection(("127.0.0.1", int(sandbox.origin.rpartition(":")[2])), timeout=5) as connection:
        connection.sendall(b"GET /_sandbox/settings HTTP/1.0\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 403")


KEY = "sk-s3cret-key"


def all_control_responses(sandbox: Sandbox) -> str:
    calls = [("GET", ""), ("GET", "settings"), ("GET", "log"), ("GET", "faults"), ("PATCH", "settings")]
    return "".join(
        requests.request(method, f"{sandbox.origin}/_sandbox/{path}", timeout=5).text for method, path in calls
    )


@pytest.mark.parametrize(
    "request_options",
    [
        {"headers": {"Authorization": f"Bearer {KEY}"}},
        {"headers": {"Authorization": KEY}},
        {"headers": {"Authorization": f"{KEY} x"}},
        {"headers": {"api-key": KEY}},
        {"headers": {"OpenAI-Project": KEY, "User-Agent": f"tool/{KEY}"}},
        {"params": {"api-key": KEY}},
        {"json": {"metadata": {"key": KEY}}},
        {"data": f"{{{KEY}"},
    ],
    ids=["Bearer", "no scheme", "key as scheme", "api-key", "other headers", "query", "body", "text"],
)
def test_key_is_never_shown(sandbox: Sandbox, request_options: dict[str, Any]) -> None:
    sandbox.settings(api_key=KEY)
    requests.post(f"{sandbox.url}/threads", timeout=5, **request_options)
    requests.post(f"{sandbox.url}/threads/{KEY}", timeout=5)
    assert len(sandbox.log()) == 2
    assert KEY not in all_control_responses(sandbox)


def test_refused_setting_does_not_echo_the_key(sandbox: Sandbox) -> None:
    response = requests.patch(f"{sandbox.origin}/_sandbox/settings", json={"api_key": [KEY]}, timeout=5)
    assert (response.status_code, KEY in response.text) == (400, False)


def test_other_machine_cannot_control_the_sandbox() -> None:
    sandbox = Sandbox.start(0, None, "key", "--host", address_of_this_machine())
    try:
        response = requests.post(f"{sandbox.origin}/_sandbox/reset", timeout=5)
        assert response.status_code == 403
        headers = {"Authorization": "Bearer key"}
        assert requests.get(f"{sandbox.url}/threads", headers=headers, timeout=5).status_code == 200
    finally:
        sandbox.stop()


def address_of_this_machine() -> str:
    """An address of this machine that is not the loopback address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # Nothing is sent.
        address: str = probe.getsockname()[0]
    return address
