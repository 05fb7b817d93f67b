from drf_spectacular.utils import extend_schema_field
from rest_framework.reverse import reverse
from rest_framework.serializers import (
    CharField,
    HyperlinkedIdentityField,
    JSONField,
    SerializerMethodField,
    URLField,
)

from runsadmin.api.fields import ChoiceField, ColumnsField, SearchField, StringField, TimeZoneField
from runsadmin.api.serializers.documented import DocumentedModelSerializer
from runsadmin.api.serializers.strict import StrictSerializer
from runsadmin.models import Export, ExportFormat
from runsadmin.models.saved_view import MAX_NAME_LENGTH

THREADS = {"count": 1, "first": [{"connection": "default", "thread": "thread_abc123"}]}
MANIFEST = {
    "search": "status:failed",
    "time_zone": "UTC",
    "format": "csv",
    "columns": ["id", "status", "metadata.team"],
    "began_at": "2026-01-31T09:00:01+00:00",
    "finished_at": "2026-01-31T09:00:09+00:00",
    "runs": 4120,
    "incomplete": {
        "runs_missing_upstream": 3,
        "runs_with_unknown_metadata": 0,
        "runs_waiting_for_refresh": 0,
        "threads_never_read_fully": {"count": 0, "first": []},
        "threads_with_sync_errors": THREADS,
    },
}


@extend_schema_field({"type": ["object", "null"]})
class ManifestField(JSONField):
    pass


class ExportBody(StrictSerializer):
    examples = {
        "A search": {"q": "status:failed", "format": "csv", "columns": "id,status,metadata.team"},
        "All runs": {"format": "jsonl"},
    }

    q = SearchField(default="", allow_blank=True, help_text="Only runs that match this search. Default: all.")
    view = StringField(
        required=False,
        max_length=MAX_NAME_LENGTH,
        help_text="The slug of a saved view. `q`, `tz` and `columns` override those of the view.",
    )
    tz = TimeZoneField()
    format = ChoiceField(ExportFormat.choices, help_text="`csv`, `jsonl` or `parquet`.")
    columns = ColumnsField(required=False)


class ExportSerializer(DocumentedModelSerializer[Export]):
    docs = {
        "id": ("The id of the export.", 17),
        "url": ("The URL of this export.", "http://runsadmin.example/api/v1/exports/17/"),
        "actor": ("Who requested it.", "alice"),
        "source": ("`admin` or `api`.", "api"),
        "format": ("`csv`, `jsonl` or `parquet`.", "csv"),
        "columns": ("Its columns. Empty for JSON Lines, which contain whole runs.", "id,status,metadata.team"),
        "q": (
            "Its search. Empty if it exports all runs, or selected ones.",
            "status:failed",
            CharField(source="query"),
        ),
        "tz": ("The time zone of the dates in the search.", "UTC"),
        "is_file": ("Whether a worker writes it to a file. Otherwise, it is sent as the runs are read.", True),
        "status": ("The status of the export.", "completed"),
        "detail": ("What happened last.", ""),
        "rows": ("How many runs it has so far.", 4120),
        "size": ("The size of the file, in bytes.", 184320),
        "file_url": (
            "Where the file can be downloaded. Null if there is none.",
            "http://runsadmin.example/api/v1/exports/17/file/",
            SerializerMethodField(),
        ),
        "manifest": (
            "What was exported, and what may be missing. Null until it is completed.",
            MANIFEST,
            ManifestField(read_only=True),
        ),
        "created_at": ("When it was requested.", "2026-01-31T09:00:00Z"),
        "started_at": ("When it began.", "2026-01-31T09:00:01Z"),
        "finished_at": ("When it ended.", "2026-01-31T09:00:09Z"),
        "expires_at": ("When the file is deleted.", "2026-02-07T09:00:09Z"),
    }

    actor = CharField(source="actor.username")
    url = HyperlinkedIdentityField("api:export-detail")

    class Meta:
        model = Export

    @extend_schema_field(URLField(allow_null=True))
    def get_file_url(self, export: Export) -> str | None:
        if not export.has_file:
            return None
        return reverse("api:export-file", args=[export.pk], request=self.context["request"])
