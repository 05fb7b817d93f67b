"""The control API under `/_sandbox/`: for tests, and for who plays with the sandbox. No upstream has it.

It wants no key, and answers nobody but this machine.
"""

import re
import time
import traceback
from ipaddress import ip_address
from typing import Any

import orjson

from sandbox import refusals
from sandbox.faults import read_fault
from sandbox.messages import Answer, Json, Request
from sandbox.refusals import ApiError
from sandbox.sandbox import Sandbox
from sandbox.seed import seed_store

PREFIX = "/_sandbox"
# A name that only this machine can give itself, and a port.
THIS_MACHINE = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?", re.IGNORECASE | re.ASCII)
MAX_BODY = 512 * 1024 * 1024


def handle(sandbox: Sandbox, request: Request, peer: tuple[str, int] | None) -> Answer:
    try:
        check_sender(request, peer)
        return response(sandbox, request)
    except ApiError as error:
        return error.response()
    except ValueError as error:
        return ApiError(str(error)).response()
    except Exception:  # noqa: BLE001 - A mistake of ours must not end the server; it is told on stderr.
        traceback.print_exc()
        return refusals.server_error().response()


def check_sender(request: Request, peer: tuple[str, int] | None) -> None:
    if not peer or not ip_address(peer[0]).is_loopback:
        raise ApiError("The control API answers this machine only.", status=403)
    # A page in this machine's browser is not this machine's user. It sends its origin, or, where its own name has been
    # made to lead here (DNS rebinding), that name as the host.
    if "origin" in request.headers or not THIS_MACHINE.fullmatch(request.headers.get("host", "")):
        raise ApiError(
            "The control API does not answer web pages. Call it as localhost, 127.0.0.1 or [::1].", status=403
        )


def response(sandbox: Sandbox, request: Request) -> Answer:
    store, done = sandbox.store, Answer.json({})
    match request.method, *request.parts[1:]:
        case ["GET"] | ["GET", ""]:
            return Answer.json({"threads": len(store.threads), "runs": len(store.runs)})
        case ["POST", "reset"]:
            sandbox.reset()
            return done
        case ["POST", "seed"]:
            return Answer.json(seed_store(store, **read_seed(request)))

        case ["GET", "runs"]:
            thread_id = request.query.get("thread_id")
            bodies = [run.body for run in store.runs.values() if thread_id in (None, run.thread_id)]
            return Answer(200, b"[" + b",".join(bodies) + b"]")
        case ["PUT", "runs"]:
            runs = read_runs(request)
            store.put(runs=runs)
            return Answer.json({"stored": len(runs)})
        case ["GET", "runs", run_id] if run_id in store.runs:
            return Answer(200, store.runs[run_id].body)
        case ["PATCH", "runs", run_id] if run_id in store.runs:
            run = store.runs[run_id].load() | read_object(request) | {"id": run_id}
            check_run(run)
            store.put(runs=[run])
            return Answer.json(run)
        case ["PATCH", "runs", run_id, "metadata"] if run_id in store.runs:
            run = store.runs[run_id].load()
            store.put(runs=[run | {"metadata": (run.get("metadata") or {}) | read_object(request)}])
            return Answer.json({"at": time.time()})
        case ["DELETE", "runs", run_id] if run_id in store.runs:
            store.remove_run(run_id)
            return done
        case ["GET" | "PATCH" | "DELETE", "runs", run_id, *_]:
            raise refusals.not_found("run", run_id)
        case ["DELETE", "threads", thread_id]:
            if thread_id not in store.threads:
                raise refusals.not_found("thread", thread_id)
            store.remove_thread(thread_id)
            return done

        case ["GET", "log"]:
            requests = sandbox.log.after(int(request.query.get("after", "0")), key=sandbox.settings.api_key)
            return Answer.json({"requests": requests, "last": sandbox.log.last})
        case ["DELETE", "log"]:
            sandbox.log.clear()
            return done

        case ["GET", "settings"]:
            return Answer.json(sandbox.settings.to_json())
        case ["PATCH", "settings"]:
            sandbox.settings = sandbox.settings.changed(read_object(request))
            return Answer.json(sandbox.settings.to_json())

        case ["GET", "faults"]:
            return Answer.json(sandbox.faults.to_json())
        case ["POST", "faults"]:
            return Answer.json({"id": sandbox.faults.add(read_fault(read_object(request)))})
        case ["DELETE", "faults"]:
            sandbox.faults.clear()
            return done
        case ["DELETE", "faults", fault_id]:
            if not sandbox.faults.remove(fault_id):
                raise refusals.not_found("fault", fault_id)
            return done
    raise refusals.unknown_url(request.method, request.path)


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
        raise ValueError("A seed may have 'threads', 'runs', 'seed' and 'now', all of them integers.")
    return wanted


def read_runs(request: Request) -> list[Json]:
    runs = read(request)
    if not isinstance(runs, list):
        raise ValueError("Expected a JSON list of runs.")
    for run in runs:
        check_run(run)
    return runs


def check_run(run: Any) -> None:
    """It may be as odd as it likes, but it has an id and a thread."""
    if not isinstance(run, dict) or not all(isinstance(run.get(name), str) for name in ("id", "thread_id")):
        raise ValueError("A run needs an 'id' and a 'thread_id', both of them strings.")
