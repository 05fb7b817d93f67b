"""The sandbox with a memory that outlives it: `python -m tests.crashes.recording --state FOLDER/state …`.

It keeps a file `record` in FOLDER. Before it handles a call that reads or changes one run, it writes down what that run
had and what the call asks for; of a list, what it showed of each run. The sandbox does one thing at a time, so the
lines are in the very order of events: who reads them needs no clock.
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
from sandbox.messages import Answer, Request
from sandbox.sandbox import Sandbox


def recorded(handle: Callable[..., Answer], file: int, what: Callable[[Request], str | None]) -> Callable[..., Answer]:
    def handle_recorded(sandbox: Sandbox, request: Request, *more: Any) -> Answer:
        kind = what(request)
        run_id = next((part for part in request.parts if part in sandbox.store.runs), None)
        if kind is not None and run_id is not None:
            asks = orjson.loads(request.body or b"null")
            write_down(kind, {run_id: sandbox.store.runs[run_id].load().get("metadata")}, asks)
        response = handle(sandbox, request, *more)
        if kind == "look" and run_id is None and response.status == 200:  # A list: a look at each run that it shows.
            shown = [item for item in orjson.loads(response.body).get("data", ()) if item["id"] in sandbox.store.runs]
            write_down(kind, {run["id"]: run.get("metadata") for run in shown})
        return response

    def write_down(kind: str, had: dict[str, Any], asks: Any = None) -> None:
        events = [
            {"what": kind, "run": run_id, "at": time.time(), "had": metadata, "asks": asks}
            for run_id, metadata in had.items()
        ]
        # One write to a file opened for appending: whole, or not there.
        os.write(file, b"".join(orjson.dumps(event) + b"\n" for event in events))

    return handle_recorded


def call_of_ours(request: Request) -> str | None:
    return {"GET": "look", "POST": "write"}.get(request.method)


def somebody_elses(request: Request) -> str | None:
    return "other" if request.method == "PATCH" and request.parts[-1] == "metadata" else None


if __name__ == "__main__":
    record = Path(sys.argv[sys.argv.index("--state") + 1]).with_name("record")
    appending = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    api.handle = recorded(api.handle, appending, call_of_ours)
    control.response = recorded(control.response, appending, somebody_elses)
    sys.exit(main())
