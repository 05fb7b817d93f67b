"""Starts the sandbox as a process, and calls its control API.

sandbox = Sandbox.start()
sandbox.put_runs([make_run(id="run_a", metadata={"team": "blue"})])
sandbox.fault("lose", method="POST")
...
assert sandbox.metadata("run_a") == {"team": "red"}
"""

import itertools
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import requests

type Json = dict[str, Any]

ROOT = Path(__file__).resolve().parent.parent


class Sandbox:
    """A running sandbox. `url` is the base URL of its API, `key` the API key."""

    module = "sandbox"

    def __init__(self, port: int, state: Path | None, key: str, options: tuple[str, ...]) -> None:
        self.key = key
        self._port = port
        self._state = state
        self._options = options
        self._session = requests.Session()
        self._session.trust_env = False
        self._launch()

    @classmethod
    def start(cls, port: int = 0, state: Path | None = None, key: str = "sandbox-key", *options: str) -> Self:
        """Starts a sandbox, and returns it once it responds. Its runs never change by themselves.

        The sandbox keeps its data in the folder `state` or, without one, only in memory.
        """
        return cls(port, state, key, options)

    def _launch(self) -> None:
        storage = ["--memory"] if self._state is None else ["--state", str(self._state)]
        command = [sys.executable, "-m", self.module, "--port", str(self._port), "--key", self.key, *storage]
        command += ["--no-advance-runs", *self._options]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith("sandbox listening on "):
            raise RuntimeError(f"The sandbox did not start: exit code {self._wait()}; see its standard error.")
        self.url = line.split()[-1]
        self.origin = self.url.removesuffix("/v1")
        self._port = int(self.origin.rsplit(":", 1)[1])

    # --- The process

    def stop(self) -> int:
        """Sends SIGTERM to the sandbox. Returns its exit code."""
        self.process.terminate()
        return self._wait()

    def kill(self) -> None:
        """Sends SIGKILL, so that the sandbox cannot clean up."""
        self.process.kill()
        self._wait()

    def _wait(self) -> int:
        code = self.process.wait(10)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._session.close()
        return code

    def restart(self) -> None:
        """Starts the sandbox again, on the same port and with the same state. Stops it first if it is still running."""
        if self.process.poll() is None:
            self.stop()
        self._launch()

    # --- The control API

    def control(self, method: str, path: str, json: Any = None, **params: Any) -> Any:
        """Makes a call of the control API, and returns its response."""
        response = self._session.request(method, f"{self.origin}/_sandbox/{path}", json=json, params=params, timeout=60)
        if not response.ok:
            raise ValueError(f"The sandbox refuses {method} {path}: {response.text}")
        return response.json()

    def reset(self) -> None:
        """Deletes all threads, runs and faults, empties the log and restores the settings."""
        self.control("POST", "reset")

    def seed(self, threads: int = 40, runs: int = 2000, seed: int = 1, **more: int) -> Json:
        seeded: Json = self.control("POST", "seed", {"threads": threads, "runs": runs, "seed": seed, **more})
        return seeded

    def put_runs(self, runs: Iterable[Json]) -> None:
        """Stores the runs unchanged, and creates their threads."""
        for batch in itertools.batched(runs, 5000, strict=False):
            self.control("PUT", "runs", list(batch))

    def delete_run(self, run_id: str) -> None:
        self.control("DELETE", f"runs/{run_id}")

    def delete_thread(self, thread_id: str) -> None:
        self.control("DELETE", f"threads/{thread_id}")

    def runs(self, thread_id: str | None = None) -> dict[str, Json]:
        params = {} if thread_id is None else {"thread_id": thread_id}
        return {run["id"]: run for run in self.control("GET", "runs", **params)}

    def run(self, run_id: str) -> Json:
        """Raises ValueError if there is no such run."""
        run: Json = self.control("GET", f"runs/{run_id}")
        return run

    def metadata(self, run_id: str) -> Any:
        return self.run(run_id)["metadata"]

    def change_run(self, run_id: str, **fields: Any) -> Json:
        """Changes fields of a run without an API call, so that it is not in the log."""
        changed: Json = self.control("PATCH", f"runs/{run_id}", fields)
        return changed

    def set_metadata(self, run_id: str, metadata: Json | None) -> None:
        """Replaces the metadata, as another client would."""
        self.change_run(run_id, metadata=metadata)

    def add_pairs(self, run_id: str, pairs: Json) -> float | None:
        """Sets these pairs, as another client would. Returns the time, or None if there is no such run."""
        try:
            at: float = self.control("PATCH", f"runs/{run_id}/metadata", pairs)["at"]
        except ValueError:
            return None
        return at

    def log(self, after: int = 0) -> list[Json]:
        """The API calls that the sandbox received, oldest first."""
        entries: list[Json] = self.control("GET", "log", after=after)["requests"]
        return entries

    def clear_log(self) -> None:
        self.control("DELETE", "log")

    def posts(self, run_id: str | None = None) -> list[Json]:
        """The POSTs that the sandbox received, for one run or for all."""
        return self._calls("POST", run_id)

    def gets(self, run_id: str | None = None) -> list[Json]:
        """The GETs that the sandbox received, for one run or for all."""
        return self._calls("GET", run_id)

    def posted_run_ids(self) -> list[str]:
        """The run id of each POST, oldest first."""
        return [post["path"].rsplit("/", 1)[1] for post in self.posts()]

    def _calls(self, method: str, run_id: str | None) -> list[Json]:
        return [
            entry
            for entry in self.log()
            if entry["method"] == method and (run_id is None or run_id in entry["path"].split("/"))
        ]

    def fault(self, kind: str, **properties: Any) -> str:
        """Adds a fault, of a kind that sandbox/faults.py lists. Returns the fault's id."""
        fault_id: str = self.control("POST", "faults", {"kind": kind, **properties})["id"]
        return fault_id

    def faults(self) -> list[Json]:
        faults: list[Json] = self.control("GET", "faults")
        return faults

    def clear_faults(self) -> None:
        self.control("DELETE", "faults")

    def settings(self, **changes: Any) -> Json:
        """Changes settings; returns all of them."""
        settings: Json = self.control("PATCH", "settings", changes)
        return settings


_numbers = itertools.count(1)


def make_run(**fields: Any) -> Json:
    """A valid completed run with all 27 documented fields. Other fields can be added.

    Each run was created a second after the previous one. All were created within the last twelve hours.
    """
    number = next(_numbers)
    created_at = fields.get("created_at", int(time.time()) - 12 * 3600 + number)
    start = int(created_at) if isinstance(created_at, (int, float)) else 0
    run: Json = {
        "id": f"run_{number:024d}",
        "object": "thread.run",
        "created_at": created_at,
        "thread_id": "thread_000000000000000000000001",
        "assistant_id": "asst_000000000000000000000001",
        "status": "completed",
        "required_action": None,
        "last_error": None,
        "expires_at": None,
        "started_at": start + 1,
        "cancelled_at": None,
        "failed_at": None,
        "completed_at": start + 9,
        "incomplete_details": None,
        "model": "gpt-4o",
        "instructions": "Answer in one sentence.",
        "tools": [],
        "metadata": {},
        "usage": {"prompt_tokens": 120, "completion_tokens": 30, "total_tokens": 150},
        "temperature": 1.0,
        "top_p": 1.0,
        "max_prompt_tokens": None,
        "max_completion_tokens": None,
        "truncation_strategy": {"type": "auto", "last_messages": None},
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "response_format": "auto",
    }
    status = fields.get("status", "completed")
    if status not in ("completed", "incomplete"):
        run["completed_at"] = None
    if status in ("queued", "in_progress", "requires_action", "cancelling"):
        run |= {"usage": None, "expires_at": start + 600}
    if status == "queued":
        run["started_at"] = None
    if status in ("failed", "cancelled"):
        run[f"{status}_at"] = start + 9
    if status == "expired":
        run["expires_at"] = start + 600
    return run | fields
