from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from runsadmin.api.fields import ConnectionField, StringField
from runsadmin.api.serializers.strict import StrictSerializer
from runsadmin.models import Sync, SyncError

MAX_ERRORS_SHOWN = 100

EXAMPLE = {
    "id": 17,
    "url": "http://runsadmin.example/api/v1/syncs/17/",
    "connection": "default",
    "kind": "full",
    "thread_id": None,
    "actor": "alice",
    "status": "completed_with_errors",
    "detail": "",
    "threads_total": 40,
    "threads_done": 40,
    "pages": 52,
    "runs_seen": 2013,
    "runs_created": 12,
    "runs_updated": 3,
    "errors_count": 1,
    "created_at": "2026-01-31T09:00:00Z",
    "started_at": "2026-01-31T09:00:01Z",
    "finished_at": "2026-01-31T09:00:09Z",
}
ERROR_EXAMPLE = {
    "thread_id": "thread_abc123",
    "run_id": "",
    "message": "Upstream no longer has this thread.",
    "created_at": "2026-01-31T09:00:05Z",
}


@extend_schema_serializer(
    examples=[
        OpenApiExample("All tracked threads", {"kind": "full"}, request_only=True),
        OpenApiExample("One thread", {"thread_id": "thread_abc123"}, request_only=True),
    ]
)
class StartSyncBody(StrictSerializer):
    connection = ConnectionField(required=False, help_text="Required where several connections are configured.")
    kind = serializers.ChoiceField(
        Sync.Kind.choices,
        default=Sync.Kind.INCREMENTAL,
        help_text="`incremental` reads new runs and those still active, `full` reads all runs.",
    )
    thread_id = StringField(required=False, help_text="Read only this thread.")


class SyncErrorSerializer(serializers.ModelSerializer[SyncError]):
    thread_id = serializers.CharField(
        source="thread.upstream_id", default=None, allow_null=True, help_text="The thread, or null."
    )

    class Meta:
        model = SyncError
        fields = ["thread_id", "run_id", "message", "created_at"]
        read_only_fields = fields
        extra_kwargs = {
            "run_id": {"help_text": "The run, or empty."},
            "message": {"help_text": "What could not be read, and why."},
            "created_at": {"help_text": "When the error occurred."},
        }


@extend_schema_serializer(examples=[OpenApiExample("A full sync", EXAMPLE, response_only=True)])
class SyncSerializer(serializers.ModelSerializer[Sync]):
    thread_id = serializers.CharField(
        source="thread.upstream_id",
        default=None,
        allow_null=True,
        help_text="The only thread that it reads. Null: all tracked threads of the connection.",
    )
    actor = serializers.CharField(
        source="actor.username", default=None, allow_null=True, help_text="Who started it. Null: the schedule."
    )
    url = serializers.HyperlinkedIdentityField("api:sync-detail", help_text="The URL of this sync here.")

    class Meta:
        model = Sync
        fields = [
            "id", "url", "connection", "kind", "thread_id", "actor", "status", "detail", "threads_total",
            "threads_done", "pages", "runs_seen", "runs_created", "runs_updated", "errors_count", "created_at",
            "started_at", "finished_at",
        ]  # fmt: skip
        read_only_fields = fields
        extra_kwargs = {
            "id": {"help_text": "The id of the sync."},
            "connection": {"help_text": "The alias of its connection."},
            "kind": {"help_text": "`incremental` or `full`."},
            "status": {"help_text": "The status of the sync."},
            "detail": {"help_text": "The last thing that happened, in words."},
            "threads_total": {"help_text": "How many threads it reads."},
            "threads_done": {"help_text": "How many of them have been read."},
            "pages": {"help_text": "How many pages it has read."},
            "runs_seen": {"help_text": "How many runs these pages had."},
            "runs_created": {"help_text": "How many of them are new in the mirror."},
            "runs_updated": {"help_text": "How many of them had changed."},
            "errors_count": {"help_text": "How many threads or runs could not be read."},
            "created_at": {"help_text": "When it was requested."},
            "started_at": {"help_text": "When a worker started it."},
            "finished_at": {"help_text": "When it ended."},
        }


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "A full sync",
            EXAMPLE | {"errors": [ERROR_EXAMPLE]},
            response_only=True,
            status_codes=["200", "202"],
        )
    ]
)
class SyncDetailSerializer(SyncSerializer):
    """A sync with its first 100 errors."""

    errors = serializers.SerializerMethodField(help_text="The first 100 errors.")  # type: ignore[assignment]

    class Meta(SyncSerializer.Meta):
        fields = [*SyncSerializer.Meta.fields, "errors"]
        read_only_fields = fields

    @extend_schema_field(SyncErrorSerializer(many=True))
    def get_errors(self, sync: Sync) -> Any:
        first = sync.errors.select_related("thread").order_by("pk")[:MAX_ERRORS_SHOWN]
        return SyncErrorSerializer(first, many=True).data
