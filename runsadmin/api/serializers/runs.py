"""Runs as this API shows them, and a request to edit one.

`run_representation` makes the responses. The serializers of runs only describe them for the schema.
"""

from rest_framework.serializers import CharField, DateTimeField, IntegerField, URLField

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


class RequiredActionSerializer(DocumentedSerializer):
    """What a run needs to continue."""

    docs = {
        "type": ("Always `submit_tool_outputs`.", "submit_tool_outputs", CharField()),
        "submit_tool_outputs": ("`tool_calls` that need outputs.", {"tool_calls": []}, UpstreamField("object")),
    }


class LastErrorSerializer(DocumentedSerializer):
    """Why a run failed."""

    docs = {
        "code": ("`rate_limit_exceeded`, `server_error` and others.", "server_error", CharField()),
        "message": ("Upstream's message.", "Something went wrong.", CharField()),
    }


class IncompleteDetailsSerializer(DocumentedSerializer):
    """Why a run is incomplete."""

    docs = {"reason": ("`max_completion_tokens` and others.", "max_completion_tokens", CharField(required=False))}


class UsageSerializer(DocumentedSerializer):
    """How many tokens a run used."""

    docs = {
        "prompt_tokens": ("Tokens in the prompt.", 123, IntegerField()),
        "completion_tokens": ("Tokens in the completion.", 456, IntegerField()),
        "total_tokens": ("All tokens.", 579, IntegerField()),
    }


class TruncationStrategySerializer(DocumentedSerializer):
    """How the messages of a thread are selected for a run."""

    docs = {
        "type": ("`auto` or `last_messages`.", "auto", CharField()),
        "last_messages": (
            "How many of the latest messages are used, or null.",
            None,
            IntegerField(allow_null=True, required=False),
        ),
    }


class ToolSerializer(DocumentedSerializer):
    """A tool. Functions have the field `function`."""

    docs = {"type": ("`code_interpreter`, `file_search` or `function`.", "code_interpreter", CharField())}


STRING, INTEGER, NUMBER = UpstreamField("string"), UpstreamField("integer"), UpstreamField("number")
BOOLEAN, STRING_OR_OBJECT = UpstreamField("boolean"), UpstreamField("string", "object")
METADATA = UpstreamField("object", additionalProperties={"type": "string"})


class RunSerializer(DocumentedSerializer):
    """The run in the Assistants API's own format, with every other field that upstream sends.

    The types are those that the Assistants API documents. The mirror shows what upstream sent, so a server that departs
    from the documentation may lead to other types, except in `id` and the times.
    """

    docs = {
        "id": ("The id that upstream gave it.", "run_abc123", CharField()),
        "object": ("Always `thread.run`.", "thread.run", STRING),
        "created_at": ("When it was created, in Unix seconds.", 1769850000, INTEGER),
        "thread_id": ("The thread that was run.", "thread_abc123", STRING),
        "assistant_id": ("The assistant that ran.", "asst_abc123", STRING),
        "status": ("`queued`, `in_progress`, `completed`, `failed` and others.", "completed", STRING),
        "required_action": ("What the run needs to continue, or null.", None),
        "last_error": ("Its last error, or null.", None),
        "expires_at": ("When it expires, in Unix seconds.", None, INTEGER),
        "started_at": ("When it started, in Unix seconds.", 1769850001, INTEGER),
        "cancelled_at": ("When it was cancelled, in Unix seconds.", None, INTEGER),
        "failed_at": ("When it failed, in Unix seconds.", None, INTEGER),
        "completed_at": ("When it was completed, in Unix seconds.", 1769850009, INTEGER),
        "incomplete_details": ("Why it is incomplete, or null.", None),
        "model": ("The model that it used.", "gpt-4o", STRING),
        "instructions": ("Its instructions, or null.", None, STRING),
        "tools": ("The tools that it could use.", [ToolSerializer.example()]),
        "metadata": ("At most 16 pairs. Null if not known.", {"team": "search", "ticket": "OPS-17"}, METADATA),
        "usage": ("How many tokens it used. Null until it has ended.", UsageSerializer.example()),
        "temperature": ("The sampling temperature, or null.", 1.0, NUMBER),
        "top_p": ("The nucleus sampling value, or null.", 1.0, NUMBER),
        "max_prompt_tokens": ("The limit of prompt tokens, or null.", 1000, INTEGER),
        "max_completion_tokens": ("The limit of completion tokens, or null.", 1000, INTEGER),
        "truncation_strategy": ("How the thread is truncated.", TruncationStrategySerializer.example()),
        "tool_choice": ("Which tool it had to use.", "auto", STRING_OR_OBJECT),
        "parallel_tool_calls": ("Whether it could call tools in parallel.", True, BOOLEAN),
        "response_format": ("The format that the model had to use.", "auto", STRING_OR_OBJECT),
        "mirror": ("What this mirror knows about the run.", MirrorSerializer.example(), MirrorSerializer()),
    }

    required_action = RequiredActionSerializer(allow_null=True)
    last_error = LastErrorSerializer(allow_null=True)
    incomplete_details = IncompleteDetailsSerializer(allow_null=True)
    tools = ToolSerializer(many=True, allow_null=True)
    usage = UsageSerializer(allow_null=True)
    truncation_strategy = TruncationStrategySerializer(allow_null=True)


class EditRunBody(StrictSerializer):
    examples = {
        "Set one key, remove another": {"metadata": {"team": "search", "old": None}, "reason": "Team was renamed"},
        "Conflict if someone else changed a key": {"metadata": {"team": "search"}, "base": {"team": "ads", "old": "x"}},
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
