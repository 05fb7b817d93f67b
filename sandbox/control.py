"""The control API under `/_sandbox/`, for tests and experiments. It is not part of the Assistants API.

It needs no key, and accepts requests only from this machine.
"""

import re
import time
import traceback
from ipaddress import ip_address
from typing import Any

import orjson

from sandbox import refusals
from sandbox.faults import read_fault
from sandbox.messages import Json, Request, Response
from sandbox.refusals import ApiError
from sandbox.sandbox import Sandbox
from sandbox.seed import seed_store
from sandbox.store import Store

PREFIX = "/_sandbox"
# Values of the Host header that can only mean this machine.
THIS_MACHINE = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?", re.IGNORECASE | re.ASCII)
MAX_BODY = 512 * 1024 * 1024


def handle(sandbox: Sandbox, request: Request, peer: tuple[str, int] | None) -> Response:
    try:
        check_sender(request, peer)
        return dispatch(sandbox, request)
    except ApiError as error:
        return error.response()
    except ValueError as error:
        return ApiError(str(error)).response()
    except Exception:  # noqa: BLE001 - A bug must not end the server; it is printed to stderr.
        traceback.print_exc()
        return refusals.server_error().response()


def check_sender(request: Request, peer: tuple[str, int] | None) -> None:
    if not peer or not ip_address(peer[0]).is_loopback:
        raise ApiError("The control API accepts requests only from this machine.", status=403)
    # Reject requests by web pages in a browser on this machine: they have an Origin header or, after DNS rebinding,
    # another host.
    if "origin" in request.headers or not THIS_MACHINE.fullmatch(request.headers.get("host", "")):
        raise ApiError(
            "The control API does not accept requests from web pages. Call it as localhost, 127.0.0.1 or [::1].",
            status=403,
        )


def dispatch(sandbox: Sandbox, request: Request) -> Response:
    store, name = sandbox.store, request.parts[1] if len(request.parts) > 1 else ""
    if (call := CALLS.get(name)) and (response := call(sandbox, request)):
        return response
    match request.method, *request.parts[1:]:
        case ["GET"] | ["GET", ""]:
            return Response.json({"threads": len(store.threads), "runs": len(store.runs)})
        case ["POST", "reset"]:
            sandbox.reset()
            return Response.json({})
        case ["POST", "seed"]:
            return Response.json(seed_store(store, **read_seed(request)))
        case ["DELETE", "threads", thread_id]:
            if thread_id not in store.threads:
                raise refusals.not_found("thread", thread_id)
            store.remove_thread(thread_id)
            return Response.json({})
    raise refusals.unknown_url(request.method, request.path)


def control_runs(sandbox: Sandbox, request: Request) -> Response | None:
    match request.method, *request.parts[2:]:
        case ["GET"]:
            thread_id = request.query.get("thread_id")
            bodies = [run.body for run in sandbox.store.runs.values() if thread_id in (None, run.thread_id)]
            return Response(200, b"[" + b",".join(bodies) + b"]")
        case ["PUT"]:
            runs = read_runs(request)
            sandbox.store.put(runs=runs)
            return Response.json({"stored": len(runs)})
        case ["GET" | "PATCH" | "DELETE", run_id, *rest]:
            return control_run(sandbox.store, request, run_id, rest)
    return None


def control_run(store: Store, request: Request, run_id: str, rest: list[str]) -> Response:
    if run_id in store.runs:
        match request.method, *rest:
            case ["GET"]:
                return Response(200, store.runs[run_id].body)
            case ["PATCH"]:
                run = store.runs[run_id].load() | read_object(request) | {"id": run_id}
                check_run(run)
                store.put(runs=[run])
                return Response.json(run)
            case ["PATCH", "metadata"]:
                run = store.runs[run_id].load()
                store.put(runs=[run | {"metadata": (run.get("metadata") or {}) | read_object(request)}])
                return Response.json({"at": time.time()})
            case ["DELETE"]:
                store.remove_run(run_id)
                return Response.json({})
    raise refusals.not_found("run", run_id)


def control_log(sandbox: Sandbox, request: Request) -> Response | None:
    match request.method, *request.parts[2:]:
        case ["GET"]:
            requests = sandbox.log.after(int(request.query.get("after", "0")), key=sandbox.settings.api_key)
            return Response.json({"requests": requests, "last": sandbox.log.last})
        case ["DELETE"]:
            sandbox.log.clear()
            return Response.json({})
    return None


def control_settings(sandbox: Sandbox, request: Request) -> Response | None:
    match request.method, *request.parts[2:]:
        case ["PATCH"]:
            sandbox.settings = sandbox.settings.changed(read_object(request))
        case ["GET"]:
            pass
        case _:
            return None
    return Response.json(sandbox.settings.to_json())


def control_faults(sandbox: Sandbox, request: Request) -> Response | None:
    match request.method, *request.parts[2:]:
        case ["GET"]:
            return Response.json(sandbox.faults.to_json())
        case ["POST"]:
            return Response.json({"id": sandbox.faults.add(read_fault(read_object(request)))})
        case ["DELETE"]:
            sandbox.faults.clear()
            return Response.json({})
        case ["DELETE", fault_id]:
            if not sandbox.faults.remove(fault_id):
                raise refusals.not_found("fault", fault_id)
            return Response.json({})
    return None


CALLS = {"runs": control_runs, "log": control_log, "settings": control_settings, "faults": control_faults}


def read(request: Request) -> Any:
    if request.body is None:
        raise refusals.too_large()
    return orjson.loads(request.body or b"{}")


def read_object(request: Request) -> Json:
    value = read(request)
    if not isinstance(value, dict):
        raise ValueError("Expected a JSON object.")
    return value


def read_seed(request: Request) -> dict[str, int]:
    defaults = {"threads": 40, "runs": 2000, "seed": 1, "now": int(time.time())}
    wanted = defaults | read_object(request)
    if wanted.keys() != defaults.keys() or not all(type(value) is int and value >= 0 for value in wanted.values()):
        raise ValueError("A seed can have 'threads', 'runs', 'seed' and 'now', which are integers of at least 0.")
    return wanted


def read_runs(request: Request) -> list[Json]:
    runs = read(request)
    if not isinstance(runs, list):
        raise ValueError("Expected a JSON list of runs.")
    for run in runs:
        check_run(run)
    return runs


def check_run(run: Any) -> None:
    """Any content is accepted, but a run needs an id and a thread."""
    if not isinstance(run, dict) or not all(isinstance(run.get(name), str) for name in ("id", "thread_id")):
        raise ValueError("A run needs an 'id' and a 'thread_id', both strings.")
