"""The steps of a run. They are derived from the run on each request, always with the same result."""

from random import Random
from typing import Any

from sandbox.identifiers import seeded_id
from sandbox.messages import Json

# How a step can end, and the field of the run that has the time when its last step ended.
ENDS = {"completed": "completed_at", "failed": "failed_at", "cancelled": "cancelled_at", "expired": "expires_at"}


def steps_of(run: Json) -> list[Json]:
    """One step per tool and, if the run got that far, one for the message, spread over the duration of the run."""
    start = run.get("started_at")
    if not isinstance(start, int):
        return []
    random = Random(run["id"])
    details = [tool_call(random, tool) for tool in run.get("tools") or []]
    if run["status"] in ("completed", "incomplete"):
        details.append({"type": "message_creation", "message_creation": {"message_id": seeded_id(random, "msg")}})
    end = run.get("completed_at") or run.get("failed_at") or run.get("cancelled_at") or start
    each = (int(end) - start) / max(1, len(details))
    return [
        new_step(random, run, detail, created_at=start + int(each * number), is_last=detail is details[-1])
        for number, detail in enumerate(details)
    ]


def new_step(random: Random, run: Json, details: Json, *, created_at: int, is_last: bool) -> Json:
    """All steps but the last succeeded; the last one ended like the run."""
    status = run["status"] if is_last and run["status"] != "incomplete" else "completed"
    times: Json = {f"{end}_at": None for end in ENDS}
    usage = None
    if status in ENDS:
        times[f"{status}_at"] = run.get(ENDS[status]) if is_last else created_at + 1
        prompt, completion = random.randint(80, 900), random.randint(10, 200)
        usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return {
        "id": seeded_id(random, "step"),
        "object": "thread.run.step",
        "created_at": created_at,
        "run_id": run["id"],
        "assistant_id": run.get("assistant_id"),
        "thread_id": run["thread_id"],
        "type": details["type"],
        "status": status if status in ENDS else "in_progress",
        **times,
        "last_error": run.get("last_error") if status == "failed" else None,
        "step_details": details,
        "usage": usage,
        "metadata": {},
    }


def tool_call(random: Random, tool: Any) -> Json:
    call: Json = {"id": seeded_id(random, "call"), "type": tool["type"]}
    match tool["type"]:
        case "function":
            call["function"] = {"name": tool["function"]["name"], "arguments": "{}", "output": None}
        case "code_interpreter":
            call["code_interpreter"] = {"input": "table.describe()", "outputs": []}
        case other:
            call[other] = {}
    return {"type": "tool_calls", "tool_calls": [call]}
