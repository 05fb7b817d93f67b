"""The control API under `/_sandbox/`: for tests and for whoever plays with the sandbox, not part of the upstream.

It needs no key, and answers nobody but this machine.
"""

import re
import time
from ipaddress import ip_address
from typing import Any

import orjson

from runsadmin.sandbox import refusals
from runsadmin.sandbox.faults import read_fault
from runsadmin.sandbox.messages import Answer, Json, Request
from runsadmin.sandbox.refusals import Refusal
from runsadmin.sandbox.sandbox import Sandbox
from runsadmin.sandbox.seed import plant

PREFIX = "/_sandbox"
MAX_BODY = 512 * 1024 * 1024


def handle(sandbox: Sandbox, request: Request, peer: str) -> Answer:
    try:
        if not ip_address(peer).is_loopback:
            raise Refusal("The control API is for this machine only.", status=403)
        if "origin" in request.headers:  # A page in this machine's browser is not this machine's user.
            raise Refusal("The control API is not for web pages.", status=403)
        return answer(sandbox, request)
    except Refusal as refusal:
        return refusal.answer()
    except (ValueError, re.error) as error:
        return Refusal(str(error)).answer()


def answer(sandbox: Sandbox, request: Request) -> Answer:
    store = sandbox.store
    match request.method, *request.parts[1:]:
        case "GET", :
            return Answer.json({"threads": len(store.threads), "runs": len(store.runs)})
        case "POST", "reset":
            sandbox.reset()
            return Answer.json({})
        case "POST", "seed":
            return Answer.json(plant(store, **read_seed(read(request))))

        case "GET", "runs":
            thread_id = request.query.get("thread_id")
            bodies = [run.body for run in store.runs.values() if thread_id in (None, run.thread_id)]
            return Answer(200, b"[" + b",".join(bodies) + b"]")
        case "PUT", "runs":
            runs = read_runs(request)
            store.put(runs=runs)
            return Answer.json({"stored": len(runs)})
        case "PATCH", "runs", id if id in store.runs:
            run = store.runs[id].load() | read(request)
            check_run(run)
            store.put(runs=[run])
            return Answer.json(run)
        case "DELETE", "runs", id if id in store.runs:
            store.remove_run(id)
            return Answer.json({})
        case "DELETE", "threads", id if id in store.threads:
            store.remove_thread(id)
            return Answer.json({})
        case _, "runs" | "threads" as kind, id:
            raise refusals.not_found(kind[:-1], id)

        case "GET", "log":
            requests = sandbox.log.after(int(request.query.get("after", "0")))
            return Answer.json({"requests": requests, "last": sandbox.log.last})
        case "DELETE", "log":
            sandbox.log.clear()
            return Answer.json({})

        case "GET", "settings":
            return Answer.json(sandbox.settings.to_json())
        case "PATCH", "settings":
            sandbox.settings = sandbox.settings.changed(read(request))
            return Answer.json(sandbox.settings.to_json())

        case "GET", "faults":
            return Answer.json(sandbox.faults.to_json())
        case "POST", "faults":
            return Answer.json({"id": sandbox.faults.add(read_fault(read(request)))})
        case "DELETE", "faults":
            sandbox.faults.clear()
            return Answer.json({})
        case "DELETE", "faults", id:
            if not sandbox.faults.remove(id):
                raise refusals.not_found("fault", id)
            return Answer.json({})
    raise refusals.unknown_url(request.method, request.path)


def read_json(request: Request) -> Any:
    if request.body is None:
        raise refusals.too_large()
    return orjson.loads(request.body or b"{}")


def read(request: Request) -> Json:
    value = read_json(request)
    if not isinstance(value, dict):
        raise ValueError("Expected a JSON object.")
    return value


def read_seed(given: Json) -> dict[str, int]:
    wanted = {"threads": 40, "runs": 2000, "seed": 1, "now": int(time.time())} | given
    if len(wanted) > 4 or not all(type(value) is int for value in wanted.values()):
        raise ValueError("A seed has the integers 'threads', 'runs', 'seed' and 'now'.")
    return wanted


def read_runs(request: Request) -> list[Json]:
    runs = read_json(request)
    if not isinstance(runs, list):
        raise ValueError("Expected a JSON list of runs.")
    for run in runs:
        check_run(run)
    return runs


def check_run(run: Any) -> None:
    """A run may be as odd as it likes, but it has an id and a thread."""
    if not isinstance(run, dict) or not all(isinstance(run.get(name), str) for name in ("id", "thread_id")):
        raise ValueError("A run needs an 'id' and a 'thread_id', both strings.")
