import datetime as dt
from functools import cached_property
from typing import Any

from django.db import models
from django.db.models import Func
from django.db.models.sql.compiler import SQLCompiler

from runsadmin import conf, lenient_json, scalars
from runsadmin.metadata import Metadata, MetadataState
from runsadmin.models.fields import ByteOrderedCharField, CompactDateTimeField, CompactDurationField
from runsadmin.models.shared_text import SharedText
from runsadmin.models.stored_json import StoredJSONField
from runsadmin.models.thread import Thread
from runsadmin.run_format import FIELDS, TIMES


class RunStatus(models.TextChoices):
    """The documented statuses. Upstream may add others, so a run may have a status that is not listed here."""

    QUEUED = "queued", "Queued"
    IN_PROGRESS = "in_progress", "In progress"
    REQUIRES_ACTION = "requires_action", "Requires action"
    CANCELLING = "cancelling", "Cancelling"
    CANCELLED = "cancelled", "Cancelled"
    FAILED = "failed", "Failed"
    COMPLETED = "completed", "Completed"
    INCOMPLETE = "incomplete", "Incomplete"
    EXPIRED = "expired", "Expired"


# A run in one of these statuses may still change on its own. In the last two, upstream is not known to refuse changes.
ACTIVE = (RunStatus.QUEUED, RunStatus.IN_PROGRESS, RunStatus.CANCELLING, RunStatus.REQUIRES_ACTION)
# Upstream refuses to modify a run in one of these statuses, according to recorded traffic.
LOCKED = (RunStatus.QUEUED, RunStatus.IN_PROGRESS)


# The index of the newest runs has these columns too: a search that tests them for many runs reads only the index.
# Columns of 8 bytes come first: after shorter ones, PostgreSQL would insert padding.
COLUMNS_OF_NEWEST = (
    "started_at", "expires_at", "cancelled_at", "failed_at", "completed_at", "duration", "prompt_tokens",
    "completion_tokens", "total_tokens", "missing_since", "status", "model", "error_code", "created_at_is_known",
)  # fmt: skip


class _FastDateTimeField(models.DateTimeField[Any, Any]):
    """A time that a query computes. Reading it from SQLite takes a third of the time that Django's own type takes."""

    def get_internal_type(self) -> str:
        return "FastDateTimeField"

    def from_db_value(self, value: Any, expression: object, connection: object) -> dt.datetime | None:
        return dt.datetime.fromisoformat(value).replace(tzinfo=dt.UTC) if isinstance(value, str) else value


class _AsOf(Func):
    """`as_of`, written in SQL: compiling Django's expressions would take a tenth of the time of a REST API page."""

    output_field = _FastDateTimeField()

    def __init__(self) -> None:
        super().__init__(
            "received_at", "missing_since", "needs_refresh_since", "created_at",
            "thread__fully_checked_at", "thread__listed_at", "thread__listed_from",
        )  # fmt: skip

    def as_sql(self, compiler: SQLCompiler, connection: Any, *_: Any, **__: Any) -> Any:
        received, missing, to_refresh, created, checked, listed, listed_from = (
            compiler.compile(each)[0] for each in self.get_source_expressions()
        )
        latest = "MAX" if connection.vendor == "sqlite" else "GREATEST"
        return (
            f"CASE WHEN {missing} IS NOT NULL OR {to_refresh} IS NOT NULL THEN {received}"
            f" ELSE {latest}({received}, COALESCE({checked}, {received}),"
            f" CASE WHEN {created} >= {listed_from} THEN COALESCE({listed}, {received}) ELSE {received} END) END"
        ), []


class RunQuerySet(models.QuerySet["Run"]):
    def with_as_of(self) -> "RunQuerySet":
        """Adds `as_of`: when the mirrored run was last known to match upstream.

        A sync does not update the rows of unchanged runs: the thread's row says when and how far they were listed.
        """
        return self.annotate(as_of=_AsOf())  # type: ignore[no-redef]


class Run(models.Model):
    """The mirror of an upstream Run: typed columns to filter and sort by, and the whole response."""

    connection = ByteOrderedCharField(max_length=64)
    upstream_id = ByteOrderedCharField("run id", max_length=128)
    thread = models.ForeignKey(Thread, on_delete=models.PROTECT, db_index=False, related_name="runs")
    status = ByteOrderedCharField(max_length=64)
    model = ByteOrderedCharField(max_length=256, blank=True)
    assistant_id = ByteOrderedCharField(max_length=128, blank=True)
    error_code = ByteOrderedCharField(max_length=128, blank=True)

    # If upstream's creation time cannot be read, this is when the run was first mirrored.
    created_at = CompactDateTimeField("created")
    created_at_is_known = models.BooleanField(default=True)
    started_at = CompactDateTimeField("started", null=True)
    expires_at = CompactDateTimeField("expires", null=True)
    cancelled_at = CompactDateTimeField("cancelled", null=True)
    failed_at = CompactDateTimeField("failed", null=True)
    completed_at = CompactDateTimeField("completed", null=True)
    duration = CompactDurationField(null=True, help_text="From start to end.")
    prompt_tokens = models.BigIntegerField(null=True)
    completion_tokens = models.BigIntegerField(null=True)
    total_tokens = models.BigIntegerField(null=True)

    metadata_state = models.CharField(
        max_length=16,
        default=MetadataState.KNOWN.value,
        blank=True,
        help_text="Why the metadata is not known. Empty if it is. A response without metadata does not change this.",
    )

    # Not a JSON column: nothing queries it, and PostgreSQL's jsonb would rewrite it.
    raw = StoredJSONField(help_text="The whole response as JSON.")
    shared_text = models.ForeignKey(
        SharedText, on_delete=models.PROTECT, null=True, related_name="+", help_text="The text that `raw` refers to."
    )
    in_api_format = models.BooleanField(
        default=False, help_text="Whether `raw` can be shown as it is: it needs no conversion to the API's format."
    )
    digest = models.CharField(max_length=16, help_text="A hash of the response. An unchanged run is not written again.")
    version = models.PositiveIntegerField(default=1, help_text="Counts the writes of this row. Part of the ETag.")

    # By the database's clock. These times order responses, regardless of when the responses are stored.
    requested_at = models.DateTimeField(help_text="When the response in this row was requested.")
    received_at = models.DateTimeField(help_text="When that response, or a later one with the same run, was received.")
    needs_refresh_since = models.DateTimeField(
        null=True, help_text="When overlapping responses made it necessary to fetch the run again."
    )
    missing_since = models.DateTimeField(null=True, help_text="When upstream was found to no longer have the run.")

    objects = RunQuerySet.as_manager()

    as_of: dt.datetime  # Set only by `with_as_of`.

    class Meta:
        constraints = [
            # The id comes first, since a search by id covers all connections.
            models.UniqueConstraint(fields=["upstream_id", "connection"], name="run_once_per_connection"),
            models.CheckConstraint(
                condition=models.Q(received_at__gte=models.F("requested_at")), name="run_received_after_requested"
            ),
            models.CheckConstraint(condition=models.Q(version__gte=1), name="run_version_counts_writes"),
        ]
        indexes = [
            models.Index(fields=["-created_at", "-id", *COLUMNS_OF_NEWEST], name="run_newest"),
            models.Index(fields=["status", "-created_at", "-id"], name="run_by_status"),
            models.Index(fields=["model", "-created_at", "-id"], name="run_by_model"),
            models.Index(fields=["assistant_id", "-created_at", "-id"], name="run_by_assistant"),
            models.Index(fields=["thread", "-created_at", "-id"], name="run_by_thread"),
            models.Index(fields=["connection", "-created_at", "-id"], name="run_by_connection"),
            models.Index(
                fields=["error_code", "-created_at", "-id"], condition=~models.Q(error_code=""), name="run_by_error"
            ),
            models.Index(fields=["total_tokens", "id"], name="run_by_tokens"),
            models.Index(fields=["duration", "id"], name="run_by_duration"),
            models.Index(
                fields=["needs_refresh_since"],
                condition=models.Q(needs_refresh_since__isnull=False),
                name="run_to_refresh",
            ),
            models.Index(fields=["thread"], condition=models.Q(status__in=ACTIVE), name="run_still_active"),
            models.Index(
                fields=["-created_at", "-id"], condition=models.Q(missing_since__isnull=False), name="run_missing"
            ),
        ]

    def __str__(self) -> str:
        return str(self.upstream_id)

    @property
    def connection_settings(self) -> conf.Connection:
        """Raises UnknownConnection."""
        return conf.connection(self.connection)

    @cached_property
    def data(self) -> dict[str, Any]:
        """The Run as upstream sent it, including unknown fields."""
        data: dict[str, Any] = lenient_json.loads(self.raw)
        return data

    @cached_property
    def metadata(self) -> Metadata:
        return Metadata.read(self.data.get("metadata"))

    @property
    def is_locked(self) -> bool:
        """Whether upstream is known to refuse metadata changes in the current status."""
        return self.status in LOCKED

    @property
    def is_purged(self) -> bool:
        """Whether only the id of the run is left, because edits belong to it."""
        return not self.digest

    @property
    def etag(self) -> str:
        return f'"{self.pk}-{self.version}"'

    def time(self, name: str) -> dt.datetime | None:
        """The time with this name, one of TIMES. None if it is unknown."""
        if name == "created_at" and not self.created_at_is_known:
            return None
        time: dt.datetime | None = getattr(self, name)
        return time

    def as_api(self) -> dict[str, Any]:
        """The Run in the API's own format: all documented fields and all others that were sent, with Unix times.

        Reads only `raw` and the creation time, which later responses may lack.
        """
        times = {name: scalars.time(self.data.get(name)) for name in TIMES}
        times["created_at"] = self.time("created_at")
        return dict.fromkeys(FIELDS) | self.data | {name: _unix_seconds(time) for name, time in times.items()}


def _unix_seconds(time: dt.datetime | None) -> int | None:
    return None if time is None else int(time.timestamp())


class MetadataPair(models.Model):
    """One metadata pair of a run, for searching. Written together with the run.

    Lax servers allow keys and values of any length and type. Here only the first 512 characters are stored, values of
    other types as JSON, and U+0000 as U+FFFD, since PostgreSQL cannot store it.
    """

    INDEXED_LENGTH = 512

    pk = models.CompositePrimaryKey("run", "key")
    run = models.ForeignKey(Run, on_delete=models.CASCADE, db_index=False, related_name="pairs")
    key = ByteOrderedCharField(max_length=INDEXED_LENGTH)
    value = ByteOrderedCharField(max_length=INDEXED_LENGTH, blank=True)
    created_at = CompactDateTimeField(help_text="When the run was created: lists sort by it.")

    class Meta:
        indexes = [
            models.Index(fields=["key", "value", "-created_at", "-run"], name="pair_by_key_and_value"),
            models.Index(fields=["key", "created_at", "run"], name="pair_by_key"),
        ]

    def __str__(self) -> str:
        return f"{self.key}: {self.value}"
