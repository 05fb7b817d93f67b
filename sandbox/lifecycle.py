"""Advances active runs until they end."""

import asyncio
import time
from random import Random
from zlib import crc32

from sandbox.messages import Json
from sandbox.sandbox import Sandbox
from sandbox.store import Run

TICK = 0.1

# The minimum and maximum number of seconds that a run stays in a status.
DURATIONS = {"queued": (1.0, 3.0), "in_progress": (2.0, 6.0), "cancelling": (1.0, 3.0)}
# One run in SLOW_ONE_IN stays SLOWDOWN times as long: up to two minutes.
SLOW_ONE_IN, SLOWDOWN = 4, 20


async def advance_runs(sandbox: Sandbox) -> None:
    """Runs until it is cancelled."""
    while True:
        await asyncio.sleep(TICK)
        if sandbox.settings.advance_runs:
            advance(sandbox)


def advance(sandbox: Sandbox) -> None:
    """Changes the status of every run that is due."""
    store, now = sandbox.store, time.monotonic()
    active = {run_id: store.runs[run_id] for run_id in store.active}
    due = [run for run_id, run in active.items() if now - run.since >= duration(run_id, run) * sandbox.settings.pace]
    if due:
        store.put(runs=[next_state(run.load(), int(time.time())) for run in due])


def duration(run_id: str, run: Run) -> float:
    """How many seconds a run stays in its status. The result depends only on its id and status."""
    shortest, longest = DURATIONS[run.status]
    chance = crc32(run_id.encode())
    return (shortest + (longest - shortest) * (chance % 1000) / 1000) * (SLOWDOWN if chance % SLOW_ONE_IN == 0 else 1)


def next_state(run: Json, now: int) -> Json:
    """The run in its next status."""
    match run["status"]:
        case "queued":
            return run | {"status": "in_progress", "started_at": now}
        case "in_progress":
            return run | {"status": "completed", "completed_at": now, "expires_at": None, "usage": usage(run["id"])}
        case "cancelling":
            return run | {"status": "cancelled", "cancelled_at": now, "expires_at": None, "usage": usage(run["id"])}
        case other:
            raise ValueError(f"A run with the status {other} does not change on its own.")


def usage(run_id: str) -> Json:
    random = Random(run_id)
    prompt, completion = random.randint(200, 4000), random.randint(20, 900)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
