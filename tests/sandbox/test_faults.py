import json
import socket
import time
from typing import Any

import pytest
import requests

from tests.sandbox.conftest import Api, error_of
from tests.sandbox.test_http import connected
from tests.sandbox_client import Sandbox, make_run

RED = {"team": "red"}
CUT = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)


@pytest.fixture
def run(sandbox: Sandbox) -> dict[str, Any]:
    run = make_run(metadata={"team": "blue"})
    sandbox.put_runs([run])
    return run


def is_kept(sandbox: Sandbox, run: dict[str, Any]) -> bool:
    """Whether the run is red now. Asserts that the log says the same."""
    is_red = sandbox.metadata(run["id"]) == RED
    assert sandbox.posts(run["id"])[-1]["kept"] == is_red
    return bool(is_red)


def wait_until_kept(sandbox: Sandbox, run: dict[str, Any]) -> None:
    deadline = time.monotonic() + 5
    while sandbox.metadata(run["id"]) != RED:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert is_kept(sandbox, run)


@pytest.mark.parametrize("keep", [False, True])
def test_status_replaces_the_response(sandbox: Sandbox, api: Api, run: dict[str, Any], keep: bool) -> None:
    sandbox.fault("status", status=503, headers={"Retry-After": "3"}, keep=keep)
    response = api.modify(run, RED)
    assert response.status_code == 503
    assert response.headers["retry-after"] == "3"
    assert "x-request-id" in response.headers
    assert error_of(response)["type"] == "server_error"
    assert is_kept(sandbox, run) is keep
    assert api.modify(run, RED).status_code == 200


def test_status_accepts_any_body(sandbox: Sandbox, api: Api, run: dict[str, Any]) -> None:
    for body in ({"detail": "no"}, [{"loc": ["body"]}], 7):
        sandbox.fault("status", status=422, body=body)
        response = api.read(run)
        assert (response.json(), response.headers["content-type"]) == (body, "application/json")
    for status in (204, 500):
        sandbox.fault("status", status=status, body="")
        assert api.read(run).content == b""
    sandbox.fault("status", status=429, body="slow down", headers={"Content-Type": "text/x", "retry-after-ms": 20})
    response = api.read(run)
    assert (response.text, response.headers["content-type"]) == ("slow down", "text/x")
    assert response.headers["retry-after-ms"] == "20"


def test_delay_handles_the_request_later(sandbox: Sandbox, api: Api, run: dict[str, Any]) -> None:
    sandbox.fault("delay", seconds=0.8)
    with pytest.raises(requests.ReadTimeout):
        api.post(f"/threads/{run['thread_id']}/runs/{run['id']}", {"metadata": RED}, timeout=0.1)
    assert not is_kept(sandbox, run)
    wait_until_kept(sandbox, run)


def test_slow_response_handles_the_request_at_once(sandbox: Sandbox, api: Api, run: dict[str, Any]) -> None:
    sandbox.fault("slow_response", seconds=0.3)
    with pytest.raises(requests.ReadTimeout):
        api.post(f"/threads/{run['thread_id']}/runs/{run['id']}", {"metadata": RED}, timeout=0.1)
    assert is_kept(sandbox, run)
    sandbox.fault("slow_response", seconds=0.3)
    response = api.read(run)
    assert response.json()["metadata"] == RED
    assert response.elapsed.total_seconds() >= 0.3


@pytest.mark.parametrize(
    ("kind", "keeps"), [("lose", True), ("cut_halfway", True), ("truncate", True), ("cut_before", False)]
)
def test_connection_is_cut(sandbox: Sandbox, api: Api, run: dict[str, Any], kind: str, keeps: bool) -> None:
    sandbox.fault(kind)
    with pytest.raises(CUT):
        api.modify(run, RED)
    assert is_kept(sandbox, run) is keeps
    assert api.read(run).status_code == 200


def test_cut_sends_half_of_the_response(sandbox: Sandbox, api: Api, run: dict[str, Any]) -> None:
    length = int(api.read(run).headers["content-length"])
    sandbox.fault("cut_halfway")
    with connected(sandbox) as raw:
        raw.send(f"GET /v1/threads/{run['thread_id']}/runs/{run['id']} HTTP/1.1")
        received = raw.reader.read()
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert 0 < len(received) - received.index(b"\r\n\r\n") < length


def test_truncate_sends_half_of_the_body(sandbox: Sandbox, api: Api, run: dict[str, Any]) -> None:
    length = int(api.read(run).headers["content-length"])
    sandbox.fault("truncate")
    with connected(sandbox) as raw:
        raw.send(f"GET /v1/threads/{run['thread_id']}/runs/{run['id']} HTTP/1.1")
        head, body = raw.reader.read().split(b"\r\n\r\n")
    assert f"content-length: {length}".encode() in head
    assert len(body) == length - length // 2


def test_handle_late_cuts_now_and_writes_later(sandbox: Sandbox, api: Api, run: dict[str, Any]) -> None:
    sandbox.fault("handle_late", seconds=0.8)
    with pytest.raises(CUT):
        api.modify(run, RED)
    assert not is_kept(sandbox, run)
    wait_until_kept(sandbox, run)
    assert sandbox.posts()[-1]["status"] is None


def test_reset_discards_late_writes(sandbox: Sandbox, api: Api, run: dict[str, Any]) -> None:
    sandbox.fault("handle_late", seconds=0.1)
    with pytest.raises(CUT):
        api.modify(run, RED)
    sandbox.reset()
    sandbox.put_runs([run])
    time.sleep(0.2)
    assert sandbox.run(run["id"]) == run


def test_drip_sends_byte_by_byte(sandbox: Sandbox, api: Api, run: dict[str, Any]) -> None:
    sandbox.fault("drip", seconds=1)
    with connected(sandbox) as raw:
        start = time.monotonic()
        raw.send(f"GET /v1/threads/{run['thread_id']}/runs/{run['id']} HTTP/1.1")
        assert len(raw.socket.recv(65536, socket.MSG_PEEK)) < 1000
        assert json.loads(raw.response().body) == run
        assert time.monotonic() - start >= 0.9
    sandbox.fault("drip", seconds=0.1)
    assert api.modify(run, RED).json()["metadata"] == RED
    assert api.read(run).status_code == 200


@pytest.mark.parametrize("keep", [False, True])
def test_garbage_is_not_json(sandbox: Sandbox, api: Api, run: dict[str, Any], keep: bool) -> None:
    sandbox.fault("garbage", keep=keep)
    response = api.modify(run, RED)
    assert response.status_code == 200
    with pytest.raises(requests.JSONDecodeError):
        response.json()
    assert is_kept(sandbox, run) is keep


def test_wrong_shape_is_json_but_not_a_run(sandbox: Sandbox, api: Api, run: dict[str, Any]) -> None:
    sandbox.fault("wrong_shape", keep=True)
    response = api.modify(run, RED)
    assert response.status_code == 200
    assert "id" not in response.json()
    assert is_kept(sandbox, run)
    sandbox.fault("wrong_shape", body=[run])
    assert api.read(run).json() == [run]


def test_html_is_an_error_page_of_a_proxy(sandbox: Sandbox, api: Api, run: dict[str, Any]) -> None:
    sandbox.fault("html")
    response = api.modify(run, RED)
    assert response.status_code == 502
    assert response.headers["content-type"].startswith("text/html")
    assert not is_kept(sandbox, run)
    sandbox.fault("html", status=504, keep=True)
    assert api.modify(run, RED).status_code == 504
    assert is_kept(sandbox, run)


def test_huge_sends_the_given_size(sandbox: Sandbox, api: Api, run: dict[str, Any]) -> None:
    sandbox.fault("huge", bytes=5_000_000)
    response = api.read(run)
    assert len(response.content) >= 5_000_000
    assert isinstance(response.json(), dict)


def test_redirect_points_elsewhere(sandbox: Sandbox, api: Api, run: dict[str, Any]) -> None:
    sandbox.fault("redirect", to="http://127.0.0.1:9/")
    response = api.modify(run, RED)
    assert (response.status_code, response.headers["location"]) == (302, "http://127.0.0.1:9/")
    assert not is_kept(sandbox, run)


@pytest.mark.parametrize("keep", [False, True])
def test_hang_never_responds(sandbox: Sandbox, api: Api, run: dict[str, Any], keep: bool) -> None:
    sandbox.fault("hang", keep=keep)
    with pytest.raises(requests.ReadTimeout):
        api.post(f"/threads/{run['thread_id']}/runs/{run['id']}", {"metadata": RED}, timeout=0.2)
    assert is_kept(sandbox, run) is keep
    assert sandbox.posts()[-1]["received_at"] is None


def test_fault_applies_the_given_number_of_times(sandbox: Sandbox, api: Api, run: dict[str, Any]) -> None:
    sandbox.fault("status", times=2)
    assert [api.read(run).status_code for _ in range(4)] == [500, 500, 200, 200]
    fault_id = sandbox.fault("status", times=None)
    assert [api.read(run).status_code for _ in range(3)] == [500, 500, 500]
    sandbox.control("DELETE", f"faults/{fault_id}")
    assert api.read(run).status_code == 200


def test_fault_applies_to_method_and_path(sandbox: Sandbox, api: Api, run: dict[str, Any]) -> None:
    sandbox.fault("status", method="POST", times=None)
    assert api.read(run).status_code == 200
    assert api.modify(run, RED).status_code == 500
    sandbox.clear_faults()
    sandbox.fault("status", path=r"/runs$", times=None)
    assert api.read(run).status_code == 200
    assert api.get(f"/threads/{run['thread_id']}/runs", limit=5).status_code == 500


def test_first_matching_unused_fault_applies(sandbox: Sandbox, api: Api, run: dict[str, Any]) -> None:
    sandbox.fault("status", status=500, method="POST")
    sandbox.fault("status", status=502)
    sandbox.fault("status", status=503, times=2)
    assert [api.read(run).status_code for _ in range(2)] == [502, 503]
    assert [api.modify(run, RED).status_code for _ in range(3)] == [500, 503, 200]
    assert [fault["used"] for fault in sandbox.faults()] == [1, 1, 2]


def test_fault_may_apply_at_random(sandbox: Sandbox, api: Api, run: dict[str, Any]) -> None:
    sandbox.fault("status", probability=0.0, times=None)
    assert api.read(run).status_code == 200
    sandbox.clear_faults()
    sandbox.fault("status", probability=0.5, times=None)
    assert {api.read(run).status_code for _ in range(100)} == {200, 500}


def test_fault_comes_before_the_key_check(sandbox: Sandbox, run: dict[str, Any]) -> None:
    sandbox.fault("status", status=502, keep=True)
    url = f"{sandbox.url}/threads/{run['thread_id']}/runs/{run['id']}"
    assert requests.post(url, json={"metadata": RED}, timeout=5).status_code == 502
    assert not is_kept(sandbox, run)


def test_control_api_ignores_faults(sandbox: Sandbox) -> None:
    sandbox.fault("hang", times=None)
    sandbox.settings(latency_ms=5000)
    assert sandbox.runs() == {}


@pytest.mark.parametrize(
    "fault",
    [
        {},
        {"kind": "explode"},
        {"kind": "lose", "seconds": 1},
        {"kind": "delay"},
        {"kind": "delay", "seconds": "long"},
        {"kind": "delay", "seconds": {}},
        {"kind": "redirect"},
        {"kind": "status", "status": True},
        {"kind": "status", "headers": "none"},
        {"kind": "lose", "path": "("},
        {"kind": "lose", "times": "often"},
    ],
)
def test_invalid_fault_is_refused(sandbox: Sandbox, fault: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="refuses POST faults"):
        sandbox.control("POST", "faults", fault)
    assert sandbox.faults() == []
