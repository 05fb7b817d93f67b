"""The steps of a run. They are made from the run whenever somebody asks, always the same ones."""

from random import Random
from typing import Any

from runsadmin.sandbox.identifiers import seeded_id
from runsadmin.sandbox.messages import Json

ENDED = {"completed": "completed_at", "failed": "failed_at", "cancelled": "cancelled_at", "expired": "expires_at"}


def steps_of(run: Json) -> list[Json]:
    """One step per tool that was used, then the message, spread over the time between start and end."""
    start = run.get("started_at")
    if start is None:
        return []
    random = Random(run["id"])
    details: list[Json] = [tool_step(random, tool) for tool in run.get("tools") or []]
    if run["status"] in ("completed", "incomplete"):
        message = {"message_id": seeded_id(random, "msg")}
        details.append({"type": "message_creation", "message_creation": message})
    end = run.get("completed_at") or run.get("failed_at") or run.get("cancelled_at") or start + len(details)
    return [
        step(random, run, detail, created_at=start + (end - start) * number // len(details), last=detail is details[-1])
        for number, detail in enumerate(details)
    ]


def step(random: Random, run: Json, details: Json, *, created_at: int, last: bool) -> Json:
    """All but the last step went well; the last one shares the run's fate."""
    status = run["status"] if last else "completed"
    if status not in ENDED:
        status = "completed" if status == "incomplete" else "in_progress"
    error = run.get("last_error") if status == "failed" else None
    prompt_tokens, completion_tokens = random.randint(80, 900), random.randint(10, 200)
    usage = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
    return {
        "id": seeded_id(random, "step"),
        "object": "thread.run.step",
        "created_at": created_at,
        "run_id": run["id"],
        "assistant_id": run["assistant_id"],
        "thread_id": run["thread_id"],
        "type": details["type"],
        "status": status,
        "cancelled_at": run.get("cancelled_at") if status == "cancelled" else None,
        "completed_at": created_at + 1 if status == "completed" else None,
        "expired_at": run.get("expires_at") if status == "expired" else None,
        "failed_at": run.get("failed_at") if status == "failed" else None,
        "last_error": error,
        "step_details": details,
        "usage": usage if status == "completed" else None,
        "metadata": {},
    }


def tool_step(random: Random, tool: Any) -> Json:
    call: Json = {"id": seeded_id(random, "call"), "type": tool["type"]}
    match tool["type"]:
        case "function":
            call["function"] = {"name": tool["function"]["name"], "arguments": "{}", "output": None}
        case "code_interpreter":
            call["code_interpreter"] = {"input": "df.describe()", "outputs": []}
        case other:
            call[other] = {}
    return {"type": "tool_calls", "tool_calls": [call]}
