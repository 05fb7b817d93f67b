"""A run, and a request to edit it.

`run_representation` makes runs from the stored response itself. RunSerializer describes them for the schema only.
"""

from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import serializers

from runsadmin.api.fields import MetadataField, MetadataPatchField, UpstreamField
from runsadmin.api.serializers.edits import LatestEditSerializer
from runsadmin.api.serializers.strict import ReasonField, StrictSerializer

MIRROR_EXAMPLE = {
    "connection": "default",
    "as_of": "2026-01-31T09:00:00Z",
    "missing_since": None,
    "url": "http://runsadmin.example/api/v1/runs/run_abc123/",
    "edit": {
        "id": 17,
        "status": "applied",
        "detail": "",
        "waits_for": None,
        "waits_until": None,
        "next_attempt_at": None,
        "upstream_request_id": "req_abc123",
        "url": "http://runsadmin.example/api/v1/edits/17/",
    },
}
EXAMPLE = {
    "id": "run_abc123",
    "object": "thread.run",
    "created_at": 1769850000,
    "thread_id": "thread_abc123",
    "assistant_id": "asst_abc123",
    "status": "completed",
    "required_action": None,
    "last_error": None,
    "expires_at": None,
    "started_at": 1769850001,
    "cancelled_at": None,
    "failed_at": None,
    "completed_at": 1769850009,
    "incomplete_details": None,
    "model": "gpt-4o",
    "instructions": None,
    "tools": [{"type": "code_interpreter"}],
    "metadata": {"team": "search", "ticket": "OPS-17"},
    "usage": {"prompt_tokens": 123, "completion_tokens": 456, "total_tokens": 579},
    "temperature": 1.0,
    "top_p": 1.0,
    "max_prompt_tokens": 1000,
    "max_completion_tokens": 1000,
    "truncation_strategy": {"type": "auto", "last_messages": None},
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "response_format": "auto",
    "mirror": MIRROR_EXAMPLE,
}


EDIT_EXAMPLES: dict[str, dict[str, Any]] = {
    "Set one key, remove another": {"metadata": {"team": "search", "old": None}, "reason": "Team was renamed"},
    "Reject changes made since": {"metadata": {"team": "search"}, "base": {"team": "ads", "old": "x"}},
    "Clear": {"metadata": None},
}


class MirrorSerializer(serializers.Serializer[Any]):
    connection = serializers.CharField(help_text="The alias of the connection that has the run.")
    as_of = serializers.DateTimeField(help_text="When upstream was last known to have the run like this.")
    missing_since = serializers.DateTimeField(
        allow_null=True, help_text="Since when upstream no longer has the run, or null."
    )
    url = serializers.URLField(help_text="The URL of the run here.")
    edit = LatestEditSerializer(
        allow_null=True, help_text="The latest edit of the run; after a PATCH, the edit that it made."
    )


def _time(name: str) -> serializers.IntegerField:
    return serializers.IntegerField(allow_null=True, help_text=f"When it {name}, in Unix seconds.")


@extend_schema_serializer(examples=[OpenApiExample("A run", EXAMPLE, response_only=True, status_codes=["200", "202"])])
class RunSerializer(serializers.Serializer[Any]):
    """The run in the API's own shape, with every other field that the server sends."""

    id = serializers.CharField(help_text="The id that upstream gave it.")
    object = UpstreamField("string", help_text="Always `thread.run`.")
    created_at = _time("was created")
    thread_id = UpstreamField("string", help_text="The thread that was run.")
    assistant_id = UpstreamField("string", help_text="The assistant that ran.")
    status = UpstreamField("string", help_text="`queued`, `in_progress`, `completed`, `failed` and others.")
    required_action = UpstreamField("object", help_text="What the run needs to continue, or null.")
    last_error = UpstreamField("object", help_text="`code` and `message` of its last error, or null.")
    expires_at = _time("expires")
    started_at = _time("started")
    cancelled_at = _time("was cancelled")
    failed_at = _time("failed")
    completed_at = _time("was completed")
    incomplete_details = UpstreamField("object", help_text="The `reason` why it is incomplete, or null.")
    model = UpstreamField("string", help_text="The model that it used.")
    instructions = UpstreamField("string", help_text="Its instructions, or null.")
    tools = UpstreamField("array", items={"type": "object"}, help_text="The tools that it could use.")
    metadata = UpstreamField(
        "object", additionalProperties={}, help_text="At most 16 key-value pairs. Keys and values are strings."
    )
    usage = UpstreamField(
        "object", help_text="`prompt_tokens`, `completion_tokens` and `total_tokens`. Null until it has ended."
    )
    temperature = UpstreamField("number", help_text="The sampling temperature, or null.")
    top_p = UpstreamField("number", help_text="The nucleus sampling value, or null.")
    max_prompt_tokens = UpstreamField("integer", help_text="The limit of prompt tokens, or null.")
    max_completion_tokens = UpstreamField("integer", help_text="The limit of completion tokens, or null.")
    truncation_strategy = UpstreamField("object", help_text="How the thread is truncated.")
    tool_choice = UpstreamField("string", "object", help_text="Which tool it had to use.")
    parallel_tool_calls = UpstreamField("boolean", help_text="Whether it could call tools in parallel.")
    response_format = UpstreamField("string", "object", help_text="The format that the model had to use.")
    mirror = MirrorSerializer(help_text="What this mirror knows about the run.")


@extend_schema_serializer(
    examples=[
        OpenApiExample(name, body, media_type=media_type)
        for media_type in ("application/json", "application/merge-patch+json")
        for name, body in EDIT_EXAMPLES.items()
    ]
)
class EditRunBody(StrictSerializer):
    metadata = MetadataPatchField(
        allow_null=True, help_text="Pairs to set. Null removes a key; null for the whole object clears the metadata."
    )
    base = MetadataField(
        required=False,
        allow_null=True,
        help_text="The metadata that you saw. A key of yours that someone else has changed since is then a conflict.",
    )
    reason = ReasonField()
