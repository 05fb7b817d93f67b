"""Runs as this API shows them, and a request to edit one.

`run_representation` makes the responses. The serializers of runs only describe them for the schema.
"""

from rest_framework.serializers import CharField, DateTimeField, URLField

from runsadmin.api.fields import MetadataField, MetadataPatchField, UpstreamField
from runsadmin.api.serializers.documented import DocumentedSerializer
from runsadmin.api.serializers.edits import LatestEditSerializer
from runsadmin.api.serializers.strict import ReasonField, StrictSerializer


class MirrorSerializer(DocumentedSerializer):
    docs = {
        "connection": ("The alias of the connection that has the run.", "default", CharField()),
        "as_of": ("When upstream was last known to have this state.", "2026-01-31T09:00:00Z", DateTimeField()),
        "missing_since": ("When it was found missing upstream, or null.", None, DateTimeField(allow_null=True)),
        "url": ("The URL of this run in this API.", "http://runsadmin.example/api/v1/runs/run_abc123/", URLField()),
        "edit": ("The latest edit of the run; after a PATCH, the edit that it made.", LatestEditSerializer.example()),
    }

    edit = LatestEditSerializer(allow_null=True)


STRING, INTEGER, NUMBER = UpstreamField("string"), UpstreamField("integer"), UpstreamField("number")
OBJECT, BOOLEAN = UpstreamField("object"), UpstreamField("boolean")
TOOLS = UpstreamField("array", items={"type": "object"})

USAGE = {"prompt_tokens": 123, "completion_tokens": 456, "total_tokens": 579}


class RunSerializer(DocumentedSerializer):
    """The run in the Assistants API's own format, with every other field that upstream sends."""

    docs = {
        "id": ("The id that upstream gave it.", "run_abc123", CharField()),
        "object": ("Always `thread.run`.", "thread.run", STRING),
        "created_at": ("When it was created, in Unix seconds.", 1769850000, INTEGER),
        "thread_id": ("The thread that was run.", "thread_abc123", STRING),
        "assistant_id": ("The assistant that ran.", "asst_abc123", STRING),
        "status": ("`queued`, `in_progress`, `completed`, `failed` and others.", "completed", STRING),
        "required_action": ("What the run needs to continue, or null.", None, OBJECT),
        "last_error": ("`code` and `message` of its last error, or null.", None, OBJECT),
        "expires_at": ("When it expires, in Unix seconds.", None, INTEGER),
        "started_at": ("When it started, in Unix seconds.", 1769850001, INTEGER),
        "cancelled_at": ("When it was cancelled, in Unix seconds.", None, INTEGER),
        "failed_at": ("When it failed, in Unix seconds.", None, INTEGER),
        "completed_at": ("When it was completed, in Unix seconds.", 1769850009, INTEGER),
        "incomplete_details": ("The `reason` why it is incomplete, or null.", None, OBJECT),
        "model": ("The model that it used.", "gpt-4o", STRING),
        "instructions": ("Its instructions, or null.", None, STRING),
        "tools": ("The tools that it could use.", [{"type": "code_interpreter"}], TOOLS),
        "metadata": ("At most 16 pairs. Keys and values are strings.", {"team": "search", "ticket": "OPS-17"}, OBJECT),
        "usage": ("How many tokens it used. Null until it has ended.", USAGE, OBJECT),
        "temperature": ("The sampling temperature, or null.", 1.0, NUMBER),
        "top_p": ("The nucleus sampling value, or null.", 1.0, NUMBER),
        "max_prompt_tokens": ("The limit of prompt tokens, or null.", 1000, INTEGER),
        "max_completion_tokens": ("The limit of completion tokens, or null.", 1000, INTEGER),
        "truncation_strategy": ("How the thread is truncated.", {"type": "auto", "last_messages": None}, OBJECT),
        "tool_choice": ("Which tool it had to use.", "auto", UpstreamField("string", "object")),
        "parallel_tool_calls": ("Whether it could call tools in parallel.", True, BOOLEAN),
        "response_format": ("The format that the model had to use.", "auto", UpstreamField("string", "object")),
        "mirror": ("What this mirror knows about the run.", MirrorSerializer.example(), MirrorSerializer()),
    }


class EditRunBody(StrictSerializer):
    examples = {
        "Set one key, remove another": {"metadata": {"team": "search", "old": None}, "reason": "Team was renamed"},
        "Reject changes made since": {"metadata": {"team": "search"}, "base": {"team": "ads", "old": "x"}},
        "Clear": {"metadata": None},
    }

    metadata = MetadataPatchField(
        allow_null=True, help_text="Pairs to set. Null removes a key; null for the whole object clears the metadata."
    )
    base = MetadataField(
        default=None,
        allow_null=True,
        help_text="The metadata that you saw. The edit conflicts if someone else has changed one of your keys since.",
    )
    reason = ReasonField()
