from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from runsadmin.api.fields import ConnectionField, StringField, ThreadIdsField
from runsadmin.api.links import Links
from runsadmin.api.serializers.strict import StrictSerializer
from runsadmin.models import Thread

EXAMPLE = {
    "thread_id": "thread_abc123",
    "url": "http://runsadmin.example/api/v1/threads/thread_abc123/",
    "connection": "default",
    "tracked": True,
    "created_at": "2026-01-31T09:00:00Z",
    "checked_at": "2026-01-31T09:05:00Z",
    "fully_checked_at": "2026-01-31T09:05:00Z",
    "missing_since": None,
}


@extend_schema_serializer(examples=[OpenApiExample("A tracked thread", EXAMPLE, response_only=True)])
class ThreadSerializer(serializers.ModelSerializer[Thread]):
    thread_id = serializers.CharField(source="upstream_id", help_text="The id that upstream gave it.")
    url = serializers.SerializerMethodField(help_text="The URL of this thread here.")

    class Meta:
        model = Thread
        fields = [
            "thread_id", "url", "connection", "tracked", "created_at", "checked_at", "fully_checked_at",
            "missing_since",
        ]  # fmt: skip
        read_only_fields = fields
        extra_kwargs = {
            "connection": {"help_text": "The alias of its connection."},
            "created_at": {"help_text": "When it was first tracked."},
        }

    @extend_schema_field(serializers.URLField)
    def get_url(self, thread: Thread) -> str:
        return Links(self.context["request"]).thread(thread)


@extend_schema_serializer(
    examples=[
        OpenApiExample("One thread", {"thread_id": "thread_abc123"}, request_only=True),
        OpenApiExample("Many threads", {"thread_ids": ["thread_abc123", "thread_abc456"]}, request_only=True),
    ]
)
class TrackThreadsBody(StrictSerializer):
    connection = ConnectionField(required=False, help_text="Required where several connections are configured.")
    thread_id = StringField(required=False, help_text="One id.")
    thread_ids = ThreadIdsField(required=False, help_text="Many ids. Either this or `thread_id` is required.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("thread_id" in attrs) == ("thread_ids" in attrs):
            raise serializers.ValidationError("Give either `thread_id` or `thread_ids`.", code="required")
        return attrs


class TrackedThreadSerializer(serializers.Serializer[Any]):
    thread_id = serializers.CharField(help_text="The id as it was given.")
    outcome = serializers.ChoiceField(
        ["added", "already", "invalid"],
        help_text="Whether it is now tracked, already was, or is not a valid id.",
    )
    url = serializers.URLField(allow_null=True, help_text="The URL of the thread here. Null for an invalid id.")


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "Tracked",
            {
                "connection": "default",
                "results": [
                    {"thread_id": "thread_abc123", "outcome": "added", "url": EXAMPLE["url"]},
                    {"thread_id": "../x", "outcome": "invalid", "url": None},
                ],
                "duplicates": 0,
            },
            response_only=True,
        )
    ]
)
class TrackedThreadsSerializer(serializers.Serializer[Any]):
    connection = serializers.CharField(help_text="The alias of the connection that the threads belong to.")
    results = TrackedThreadSerializer(many=True, help_text="One for each id.")
    duplicates = serializers.IntegerField(help_text="How many ids were repetitions.")
