"""The sandbox, with a record that survives its death: `python -m loadtests.recording --state FOLDER/state …`.

The record is the file `record` in FOLDER. For each request that reads or changes a run, it has the metadata of the run
before the request, and the body of the request; for a list, the metadata of each run in it. The sandbox handles one
request at a time, so the lines are in the order of events.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from sandbox import api, control
from sandbox.command_line import main
from sandbox.messages import Request, Response
from sandbox.sandbox import Sandbox


def recorded(
    handle: Callable[..., Response], file: int, kind_of: Callable[[Request], str | None]
) -> Callable[..., Response]:
    def handle_recorded(sandbox: Sandbox, request: Request, *more: Any) -> Response:
        kind = kind_of(request)
        run_id = next((part for part in request.parts if part in sandbox.store.runs), None)
        if kind is not None and run_id is not None:
            body = orjson.loads(request.body or b"null")
            append(kind, {run_id: sandbox.store.runs[run_id].load().get("metadata")}, body)
        response = handle(sandbox, request, *more)
        # A list counts as a fetch of each of its runs.
        if kind == "fetch" and run_id is None and response.status == 200:
            shown = [item for item in orjson.loads(response.body).get("data", ()) if item["id"] in sandbox.store.runs]
            append(kind, {run["id"]: run.get("metadata") for run in shown})
        return response

    def append(kind: str, before: dict[str, Any], body: Any = None) -> None:
        events = [
            {"kind": kind, "run": run_id, "at": time.time(), "before": metadata, "body": body}
            for run_id, metadata in before.items()
        ]
        # A single write to a file opened for appending is complete or absent.
        os.write(file, b"".join(orjson.dumps(event) + b"\n" for event in events))

    return handle_recorded


def own_call(request: Request) -> str | None:
    return {"GET": "fetch", "POST": "write"}.get(request.method)


def outside_change(request: Request) -> str | None:
    return "outside" if request.method == "PATCH" and request.parts[-1] == "metadata" else None


if __name__ == "__main__":
    record = Path(sys.argv[sys.argv.index("--state") + 1]).with_name("record")
    appending = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    api.handle = recorded(api.handle, appending, own_call)
    control.dispatch = recorded(control.dispatch, appending, outside_change)
    sys.exit(main())
