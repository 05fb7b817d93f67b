from drf_spectacular.utils import extend_schema_field
from rest_framework.serializers import (
    CharField,
    ChoiceField,
    IntegerField,
    SerializerMethodField,
    URLField,
)

from runsadmin.api.fields import ConnectionField, IdListField, StringField, the_only_connection
from runsadmin.api.links import Links
from runsadmin.api.serializers.documented import DocumentedModelSerializer, DocumentedSerializer
from runsadmin.api.serializers.strict import StrictSerializer
from runsadmin.models import Thread

_URL = "http://runsadmin.example/api/v1/threads/thread_abc123/"


class ThreadSerializer(DocumentedModelSerializer[Thread]):
    docs = {
        "thread_id": ("The id that upstream gave it.", "thread_abc123", CharField(source="upstream_id")),
        "url": ("The URL of this thread in this API.", _URL, SerializerMethodField()),
        "connection": ("The alias of its connection.", "default"),
        "tracked": ("Whether syncs read this thread. If not, its mirrored runs stay as they are.", True),
        "created_at": ("When it was first tracked.", "2026-01-31T09:00:00Z"),
        "checked_at": ("When a sync last finished this thread.", "2026-01-31T09:05:00Z"),
        "fully_checked_at": ("When all of its runs were last read.", "2026-01-31T09:05:00Z"),
        "missing_since": ("When upstream was found to no longer have the thread, or null.", None),
    }

    class Meta:
        model = Thread

    @extend_schema_field(URLField)
    def get_url(self, thread: Thread) -> str:
        return Links(self.context["request"]).thread(thread)


class TrackThreadsBody(StrictSerializer):
    one_of = {"thread_id": "TrackOneThread", "thread_ids": "TrackManyThreads"}
    examples = {
        "One thread": {"thread_id": "thread_abc123"},
        "Many threads": {"thread_ids": ["thread_abc123", "thread_abc456"]},
    }

    connection = ConnectionField(
        default=the_only_connection, help_text="The alias of a connection. Required if several are configured."
    )
    thread_id = StringField(required=False, help_text="The id of one thread.")
    thread_ids = IdListField(
        max_length=10_000,
        advice="Send a longer list in several requests.",
        required=False,
        help_text="The ids of several threads. Either this or `thread_id` is required.",
    )


class TrackedThreadSerializer(DocumentedSerializer):
    docs = {
        "thread_id": ("The id in the request.", "thread_abc123", CharField()),
        "outcome": (
            "`added`: the thread is now tracked. `already`: it was tracked before. `invalid`: the id is not valid.",
            "added",
        ),
        "url": ("The URL of the thread in this API. Null for an invalid id.", _URL, URLField(allow_null=True)),
    }

    outcome = ChoiceField(["added", "already", "invalid"])


class TrackedThreadsSerializer(DocumentedSerializer):
    docs = {
        "connection": ("The alias of the connection that the threads belong to.", "default", CharField()),
        "results": ("One result for each id.", [TrackedThreadSerializer.example()], TrackedThreadSerializer(many=True)),
        "duplicates": ("How many ids were duplicates.", 0, IntegerField()),
    }
