from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework.serializers import CharField, HyperlinkedIdentityField, SerializerMethodField

from runsadmin.api.fields import ChoiceField, ConnectionField, StringField, the_only_connection
from runsadmin.api.serializers.documented import DocumentedModelSerializer
from runsadmin.api.serializers.strict import StrictSerializer
from runsadmin.models import Sync, SyncError
from runsadmin.services import syncs

MAX_ERRORS_SHOWN = 100


class StartSyncBody(StrictSerializer):
    examples = {"All tracked threads": {"kind": "full"}, "One thread": {"thread_id": "thread_abc123"}}

    connection = ConnectionField(
        default=the_only_connection, help_text="The alias of a connection. Required if several are configured."
    )
    kind = ChoiceField(
        Sync.Kind.choices,
        default=Sync.Kind.INCREMENTAL,
        help_text="`incremental` reads new runs and those still active, `full` reads all runs.",
    )
    thread_id = StringField(required=False, help_text="Read only this thread.")


class SyncErrorSerializer(DocumentedModelSerializer[SyncError]):
    docs = {
        "thread_id": ("The thread, or null.", "thread_abc123"),
        "run_id": ("The run, or empty.", ""),
        "message": ("What could not be read, and why.", "Upstream has no thread with this id."),
        "created_at": ("When the error occurred.", "2026-01-31T09:00:05Z"),
    }

    thread_id = CharField(source="thread.upstream_id", default=None, allow_null=True)

    class Meta:
        model = SyncError


class SyncSerializer(DocumentedModelSerializer[Sync]):
    docs = {
        "id": ("The id of the sync.", 17),
        "url": ("The URL of this sync.", "http://runsadmin.example/api/v1/syncs/17/"),
        "connection": ("The alias of its connection.", "default"),
        "kind": ("`incremental` or `full`.", "full"),
        "thread_id": ("The only thread that it reads. Null: all tracked threads of the connection.", None),
        "actor": ("Who started it. Null: the schedule.", "alice"),
        "status": ("The status of the sync.", "completed_with_errors"),
        "detail": ("What happened last, or what the sync waits for.", "", SerializerMethodField()),
        "threads_total": ("How many threads it reads.", 40),
        "threads_done": ("How many threads it has finished.", 40),
        "pages": ("How many pages it has read.", 52),
        "runs_seen": ("How many runs it has read.", 2013),
        "runs_created": ("How many runs are new in the mirror.", 12),
        "runs_updated": ("How many runs had changed.", 3),
        "errors_count": ("How many threads or runs could not be read.", 1),
        "created_at": ("When it was requested.", "2026-01-31T09:00:00Z"),
        "started_at": ("When a worker started it.", "2026-01-31T09:00:01Z"),
        "finished_at": ("When it ended.", "2026-01-31T09:00:09Z"),
    }

    thread_id = CharField(source="thread.upstream_id", default=None, allow_null=True)
    actor = CharField(source="actor.username", default=None, allow_null=True)
    url = HyperlinkedIdentityField("api:sync-detail")

    class Meta:
        model = Sync

    def get_detail(self, sync: Sync) -> str:
        return syncs.wait_of(sync) or sync.detail


class SyncDetailSerializer(SyncSerializer):
    """A sync with its first 100 errors."""

    docs = SyncSerializer.docs | {
        "errors": ("The first 100 errors.", [SyncErrorSerializer.example()], SerializerMethodField())
    }

    @extend_schema_field(SyncErrorSerializer(many=True))
    def get_errors(self, sync: Sync) -> Any:
        first = sync.errors.select_related("thread").order_by("pk")[:MAX_ERRORS_SHOWN]
        return SyncErrorSerializer(first, many=True).data
