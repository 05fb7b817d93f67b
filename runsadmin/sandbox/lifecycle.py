"""How runs come to their end by themselves."""

import asyncio
import time
from random import Random

from runsadmin.sandbox.messages import Json
from runsadmin.sandbox.sandbox import Sandbox
from runsadmin.sandbox.store import ACTIVE, Run

TICK = 0.1

# The seconds that a run stays in a status, at least and at most.
STAYS = {"queued": (1, 3), "in_progress": (2, 6), "cancelling": (1, 3)}
# One in so many is slow, and takes this many times as long: some seconds become minutes.
SLOW_ONE_IN = 4
SLOWER = 20


async def advance_runs(sandbox: Sandbox) -> None:
    """Runs for ever."""
    while True:
        await asyncio.sleep(TICK)
        if sandbox.settings.advance_runs:
            advance(sandbox)


def advance(sandbox: Sandbox) -> None:
    """Moves on every run whose time has come."""
    now = time.time()
    moved = []
    for id in sandbox.store.active:
        record = sandbox.store.runs[id]
        if time.monotonic() - record.since >= stay(record) * sandbox.settings.pace:
            run = record.load()
            moved.append(run | next_state(run, int(now)))
    if moved:
        sandbox.store.put(runs=moved)


def stay(run: Run) -> float:
    """Always the same for the same run."""
    random = Random(run.id + run.status)
    least, most = STAYS[run.status]
    return random.uniform(least, most) * (SLOWER if random.randrange(SLOW_ONE_IN) == 0 else 1)


def next_state(run: Json, now: int) -> Json:
    """The fields that change when the run moves on."""
    match run["status"]:
        case "queued":
            return {"status": "in_progress", "started_at": now}
        case "in_progress":
            random = Random(run["id"])
            prompt_tokens, completion_tokens = random.randint(200, 4000), random.randint(20, 900)
            usage = {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": completion_tokens,
                "total_tokens": prompt_tokens + completion_tokens,
            }
            return {"status": "completed", "completed_at": now, "expires_at": None, "usage": usage}
        case "cancelling":
            return {"status": "cancelled", "cancelled_at": now, "expires_at": None}
        case other:
            raise ValueError(f"A run that is {other} does not move by itself.")
