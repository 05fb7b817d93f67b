"""The format of a Run in the Assistants API."""

from collections.abc import Mapping
from typing import Any

from runsadmin.scalars import SECONDS_BELOW

# The documented fields, in the order of the API's own example.
FIELDS = (
    "id", "object", "created_at", "thread_id", "assistant_id", "status", "required_action", "last_error",
    "expires_at", "started_at", "cancelled_at", "failed_at", "completed_at", "incomplete_details", "model",
    "instructions", "tools", "metadata", "usage", "temperature", "top_p", "max_prompt_tokens",
    "max_completion_tokens", "truncation_strategy", "tool_choice", "parallel_tool_calls", "response_format",
)  # fmt: skip
TIMES = ("created_at", "started_at", "expires_at", "cancelled_at", "failed_at", "completed_at")

_REQUIRED = frozenset(FIELDS)


def is_api_format(run: Mapping[str, Any]) -> bool:
    """Whether a Run has all documented fields, and its times are whole Unix seconds or, except `created_at`, null.

    The REST API shows such a Run unchanged, followed by its own field `mirror`. It has to convert a Run that has a
    field of that name, or that lacks the creation time, which may be known from an earlier response.
    """
    if not run.keys() >= _REQUIRED or "mirror" in run:
        return False
    times = [run[name] for name in TIMES]
    return times[0] is not None and all(
        time is None or (type(time) is int and 0 < time < SECONDS_BELOW) for time in times
    )
