"""What the API takes and gives. Input is strict: an unknown name or another type is an error, never ignored."""

from collections.abc import Iterable, Mapping
from functools import cached_property
from itertools import islice
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from runsadmin import conf
from runsadmin.api.addresses import Addresses
from runsadmin.api.pagination import MAX_PAGE_SIZE, PAGE_SIZE
from runsadmin.metadata import MAX_KEY_LENGTH, MAX_VALUE_LENGTH, Metadata, MetadataPatch
from runsadmin.models import BulkEdit, Edit, Sync, SyncError, Thread
from runsadmin.services import bulk_edits, edits

MAX_THREADS_AT_ONCE = 10_000
MAX_RUNS_AT_ONCE = 100_000
MAX_SEARCH_LENGTH = 4_000
MISTAKES_SHOWN = 100

STORABLE = r"^[^\u0000]*$"

# --- Fields


class Text(serializers.CharField):
    """A string, and only that: a number is no text, and spaces are not for us to take away."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"trim_whitespace": False} | options)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class Integer(serializers.IntegerField):
    """A number in JSON, and not one written as a string."""

    def to_internal_value(self, data: Any) -> int:
        if type(data) not in (int, float):
            self.fail("invalid")
        return super().to_internal_value(data)


class Boolean(serializers.BooleanField):
    """true or false, and nothing that could be taken for them."""

    def to_internal_value(self, data: Any) -> bool:
        if type(data) is not bool:
            self.fail("invalid", input=data)
        return data


class ConnectionField(Text):
    """The name of a configured connection. Raises UnknownConnection, which names them all."""

    def to_internal_value(self, data: Any) -> str:
        return conf.connection(super().to_internal_value(data)).alias


@extend_schema_field(
    {
        "type": "object",
        "additionalProperties": {"type": ["string", "null"], "maxLength": MAX_VALUE_LENGTH, "pattern": STORABLE},
        "propertyNames": {"minLength": 1, "maxLength": MAX_KEY_LENGTH, "pattern": STORABLE},
        "minProperties": 1,
        "examples": [{"team": "search", "old": None}],
    }
)
class MetadataPatchField(serializers.Field[MetadataPatch, Any, Any, Any]):
    """A JSON merge patch over the metadata. Raises InvalidMetadata, which tells every mistake."""

    def to_internal_value(self, data: Any) -> MetadataPatch:
        return MetadataPatch.parse(data)


@extend_schema_field({"type": "object", "additionalProperties": True, "examples": [{"team": "ads"}]})
class BaseField(serializers.Field[Metadata, Any, Any, Any]):
    """The metadata that somebody saw, as a Run showed it. Null and an empty map are the same."""

    def to_internal_value(self, data: Any) -> Metadata:
        if not isinstance(data, Mapping):
            raise serializers.ValidationError("This is the map of metadata that you saw: an object.", code="invalid")
        return Metadata(data)


_KEY = {"type": "string", "minLength": 1, "maxLength": MAX_KEY_LENGTH, "pattern": STORABLE}


def _only_text(named: Iterable[tuple[Any, Any]]) -> None:
    """Raises ValidationError, by the name or the index of what is none: the first of them."""
    wrong = ((name, ["This is no string."]) for name, value in named if not isinstance(value, str))
    if first := dict(islice(wrong, MISTAKES_SHOWN)):
        raise serializers.ValidationError(first, code="invalid")


class _Texts(serializers.Field[dict[str, str], Any, Any, Any]):
    """A map of strings. What its keys and values may be, `BulkPatch` judges, for all fields together."""

    def to_internal_value(self, data: Any) -> dict[str, str]:
        if not isinstance(data, Mapping):
            raise serializers.ValidationError("This is a map: an object of strings.", code="invalid")
        _only_text(data.items())
        return dict(data)


@extend_schema_field(
    {
        "type": "object",
        "additionalProperties": {"type": "string", "pattern": STORABLE},
        "propertyNames": _KEY,
        "examples": [{"team": "search", "batch": "{model} of {created:%Y-%m}"}],
    }
)
class PairsToSet(_Texts):
    pass


@extend_schema_field(
    {
        "type": "object",
        "additionalProperties": _KEY,
        "propertyNames": _KEY,
        "examples": [{"owner": "team"}],
    }
)
class KeysToRename(_Texts):
    pass


class _ListOfTexts(serializers.Field[list[str], Any, Any, Any]):
    """As ListField(child=Text()), which takes seconds for a hundred thousand of them."""

    def to_internal_value(self, data: Any) -> list[str]:
        if not isinstance(data, list):
            raise serializers.ValidationError("This is a list of strings.", code="invalid")
        _only_text(enumerate(data))
        return data


@extend_schema_field({"type": "array", "items": _KEY, "uniqueItems": True, "examples": [["old"]]})
class KeysToRemove(_ListOfTexts):
    pass


@extend_schema_field(
    {
        "type": "array",
        "items": {"type": "string"},
        "minItems": 1,
        "maxItems": MAX_RUNS_AT_ONCE,
        "examples": [["run_abc123", "run_abc456"]],
    }
)
class RunIds(_ListOfTexts):
    def to_internal_value(self, data: Any) -> list[str]:
        ids = super().to_internal_value(data)
        if not 1 <= len(ids) <= MAX_RUNS_AT_ONCE:
            raise serializers.ValidationError(
                f"Name 1 to {MAX_RUNS_AT_ONCE:,} runs at a time; these are {len(ids):,}. A search (`q`) has no limit.",
                code="invalid",
            )
        return ids


@extend_schema_field(
    {
        "type": "array",
        "items": {"type": "string"},
        "minItems": 1,
        "maxItems": MAX_THREADS_AT_ONCE,
        "examples": [["thread_abc123", "thread_abc456"]],
    }
)
class ThreadIds(_ListOfTexts):
    def to_internal_value(self, data: Any) -> list[str]:
        ids = super().to_internal_value(data)
        if not 1 <= len(ids) <= MAX_THREADS_AT_ONCE:
            raise serializers.ValidationError(
                f"Name 1 to {MAX_THREADS_AT_ONCE:,} threads at a time; these are {len(ids):,}. Send more in several "
                "requests.",
                code="invalid",
            )
        return ids


# --- Requests


class Strict(serializers.Serializer[Any]):
    """Names that it does not know are an error that lists those it does."""

    what = "field"

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping) and (unknown := [str(name) for name in data if name not in self.fields]):
            known = f"Known are: {', '.join(self.fields)}." if self.fields else "None is known here."
            raise serializers.ValidationError(
                {name[:100]: [f"There is no such {self.what}. {known}"] for name in unknown},
                code=f"unknown_{self.what}",
            )
        return super().to_internal_value(data)


class Query(Strict):
    what = "parameter"


class PageQuery(Query):
    cursor = Text(required=False, help_text="A place in the list: taken from `next` or `previous`, never made up.")
    page_size = serializers.IntegerField(default=PAGE_SIZE, min_value=1, max_value=MAX_PAGE_SIZE)


class ConnectionQuery(Query):
    connection = ConnectionField(
        required=False, help_text="Which connection is meant, where two of them have the same id."
    )


class RunsQuery(PageQuery):
    q = Text(required=False, max_length=MAX_SEARCH_LENGTH, allow_blank=True, help_text="A search: status:failed …")
    connection = ConnectionField(required=False)
    status = Text(required=False, max_length=64, help_text="As upstream gives it: no list of statuses is closed.")
    model = Text(required=False, max_length=256)
    assistant_id = Text(required=False, max_length=128)
    thread_id = Text(required=False, max_length=128)
    created_after = serializers.DateTimeField(required=False, help_text="At this time or later; UTC unless it says.")
    created_before = serializers.DateTimeField(required=False, help_text="Before this time; UTC unless it says.")


class EditsQuery(PageQuery):
    connection = ConnectionField(required=False)
    run = Text(required=False, max_length=128, help_text="The id of a run.")
    actor = Text(required=False, max_length=150, help_text="The name of an account.")
    bulk_edit = serializers.IntegerField(required=False, min_value=1, max_value=2**63 - 1)
    status = serializers.ChoiceField(Edit.Status.choices, required=False)


class BulkEditsQuery(PageQuery):
    connection = ConnectionField(required=False)
    actor = Text(required=False, max_length=150, help_text="The name of an account.")
    status = serializers.ChoiceField(BulkEdit.Status.choices, required=False)


class EditsOfBulkEditQuery(PageQuery):
    status = serializers.ChoiceField(Edit.Status.choices, required=False)
    plan_result = serializers.ChoiceField(Edit.PlanResult.choices, required=False)


class ThreadsQuery(PageQuery):
    connection = ConnectionField(required=False)
    tracked = serializers.BooleanField(default=True, help_text="false: those that are no longer tracked.")


class SyncsQuery(PageQuery):
    connection = ConnectionField(required=False)
    kind = serializers.ChoiceField(Sync.Kind.choices, required=False)
    status = serializers.ChoiceField(Sync.Status.choices, required=False)


class NoBody(Strict):
    pass


class RunChange(Strict):
    metadata = MetadataPatchField(
        allow_null=True, help_text="Pairs to set; null removes a key. Null for the whole clears the metadata."
    )
    base = BaseField(
        required=False,
        allow_null=True,
        help_text="The metadata that you saw. A key of yours that somebody else changed since is then a conflict.",
    )
    reason = Text(required=False, allow_blank=True, max_length=500)


class Reason(Strict):
    reason = Text(required=False, allow_blank=True, max_length=500)


class Resolution(Strict):
    metadata = MetadataPatchField(help_text="What is to be, now that theirs is known: null removes a key.")
    reason = Text(required=False, allow_blank=True, max_length=500)


class BulkReason(Strict):
    reason = Text(
        max_length=500,
        trim_whitespace=True,
        error_messages={"blank": "Say why: a bulk edit needs a reason."},
        help_text="A bulk edit needs one.",
    )


class NewBulkEdit(BulkReason):
    q = Text(
        required=False,
        max_length=MAX_SEARCH_LENGTH,
        help_text="A search: all runs that it finds now. For every run of a connection say `connection:ALIAS`.",
    )
    run_ids = RunIds(required=False, help_text="The ids that upstream gave. Those that are unknown are told.")
    connection = ConnectionField(required=False, help_text="Only runs of this one.")
    set = PairsToSet(
        default=dict,
        help_text="Pairs to set. A value may name fields of the run: `{model}`, `{status}`, `{created:%Y-%m}`.",
    )
    remove = KeysToRemove(default=list, help_text="Keys to remove.")
    rename = KeysToRename(default=dict, help_text="Keys, and what they are to be called.")
    wait_for_active = Integer(
        default=None,
        allow_null=True,
        min_value=1,
        max_value=int(bulk_edits.LONGEST_WAIT.total_seconds()),
        help_text="Seconds from applying on, in which runs that are active now may end. Null: they are left out.",
    )
    canary = Integer(
        default=None,
        allow_null=True,
        min_value=1,
        max_value=bulk_edits.MOST_RUNS,
        help_text="How many edits are sent before it pauses by itself.",
    )
    apply = Boolean(
        default=False, help_text="Apply the plan as soon as it is whole, unseen. It takes the permission to apply."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("q" in attrs) == ("run_ids" in attrs):
            raise serializers.ValidationError("Give either `q` or `run_ids`.", code="required")
        return attrs

    def validate_q(self, query: str) -> str:
        if not query.strip():
            raise serializers.ValidationError(
                "This would choose every run: say `connection:ALIAS` where that is meant.", code="blank"
            )
        return query


class NewThreads(Strict):
    connection = ConnectionField(required=False, help_text="May be left out where only one is configured.")
    thread_id = Text(required=False)
    thread_ids = ThreadIds(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("thread_id" in attrs) == ("thread_ids" in attrs):
            raise serializers.ValidationError("Give either `thread_id` or `thread_ids`.", code="required")
        return attrs


class NewSync(Strict):
    connection = ConnectionField(required=False, help_text="May be left out where only one is configured.")
    kind = serializers.ChoiceField(Sync.Kind.choices, default=Sync.Kind.INCREMENTAL)
    thread_id = Text(required=False, help_text="Reads this thread alone.")


# --- Answers

WAITS_FOR = "What it waits for, in words: “Waits for …”. Null when it has ended, or is only planned."
WAITS_UNTIL = "When that is over at the latest. Null where `waits_for` names what ends it, and nobody can say when."


class EditBriefSerializer(serializers.ModelSerializer[Edit]):
    """An edit as it stands beside a run."""

    waits_for = serializers.CharField(allow_null=True, help_text=WAITS_FOR)
    waits_until = serializers.DateTimeField(allow_null=True, help_text=WAITS_UNTIL)
    url = serializers.HyperlinkedIdentityField("api:edit")

    class Meta:
        model = Edit
        fields = [
            "id", "status", "detail", "waits_for", "waits_until", "next_attempt_at", "upstream_request_id", "url",
        ]  # fmt: skip
        read_only_fields = fields


class MirrorSerializer(serializers.Serializer[Any]):
    connection = serializers.CharField()
    as_of = serializers.DateTimeField(help_text="When upstream was last known to say this.")
    missing_since = serializers.DateTimeField(allow_null=True, help_text="Since when upstream no longer has it.")
    url = serializers.URLField()
    edit = EditBriefSerializer(allow_null=True, help_text="The latest edit; after a PATCH, the one that it made.")


def _upstream(what: str) -> serializers.JSONField:
    """A field that is passed on as it came: `what` is documented by the API, and not every server keeps to it."""
    return serializers.JSONField(help_text=what)


def _time() -> serializers.IntegerField:
    return serializers.IntegerField(allow_null=True, help_text="Unix seconds, whatever the server sends.")


class RunSerializer(serializers.Serializer[Any]):
    """The Run in the API's own shape: whatever else the server sends is there as well."""

    # Only for the schema: runs are made from the stored answer itself (see shapes.py).
    id = serializers.CharField()
    object = _upstream("`thread.run`.")
    created_at = _time()
    thread_id = _upstream("String.")
    assistant_id = _upstream("String.")
    status = _upstream("String, one of `queued`, `in_progress`, `completed` and others: the list is not closed.")
    required_action = _upstream("Object or null.")
    last_error = _upstream("Object `{code, message}` or null.")
    expires_at = _time()
    started_at = _time()
    cancelled_at = _time()
    failed_at = _time()
    completed_at = _time()
    incomplete_details = _upstream("Object `{reason}` or null.")
    model = _upstream("String.")
    instructions = _upstream("String or null.")
    tools = _upstream("List of objects.")
    metadata = _upstream("Object of at most 16 strings, or null.")
    usage = _upstream("Object `{prompt_tokens, completion_tokens, total_tokens}`; null until the run has ended.")
    temperature = _upstream("Number or null.")
    top_p = _upstream("Number or null.")
    max_prompt_tokens = _upstream("Number or null.")
    max_completion_tokens = _upstream("Number or null.")
    truncation_strategy = _upstream("Object `{type, last_messages}` or null.")
    tool_choice = _upstream("String, object or null.")
    parallel_tool_calls = _upstream("Boolean.")
    response_format = _upstream("String, object or null.")
    mirror = MirrorSerializer()


class _Map(serializers.DictField):
    """A map of metadata as it is kept."""

    def to_representation(self, value: Mapping[Any, Any]) -> dict[Any, Any]:
        return dict(value)


class _PatchMap(_Map):
    def to_representation(self, value: Any) -> dict[Any, Any]:
        patch: MetadataPatch = value
        return patch.as_merge_patch()


class ConflictSerializer(serializers.Serializer[Any]):
    """One key in conflict. Null means that the key is absent."""

    key = serializers.CharField()
    base = serializers.JSONField(help_text="What it was when you looked.")
    theirs = serializers.JSONField(help_text="What somebody else made of it.")
    ours = serializers.JSONField(help_text="What you want.")


class EditSerializer(serializers.ModelSerializer[Edit]):
    run = serializers.CharField(source="run.upstream_id")
    connection = serializers.CharField(source="run.connection")
    plan_result = serializers.ChoiceField(
        Edit.PlanResult.choices, allow_blank=True, help_text="What the plan of its bulk edit found."
    )
    actor = serializers.CharField(source="actor.username")
    base = _Map(allow_null=True)
    patch = _PatchMap(help_text="What was asked for, as a merge patch.")
    before = _Map(allow_null=True)
    intended = _Map(allow_null=True)
    after = _Map(allow_null=True)
    conflicts = serializers.SerializerMethodField()
    waits_for = serializers.SerializerMethodField(help_text=WAITS_FOR)
    waits_until = serializers.SerializerMethodField(help_text=WAITS_UNTIL)
    http_status = serializers.IntegerField(allow_null=True)
    url = serializers.HyperlinkedIdentityField("api:edit")

    class Meta:
        model = Edit
        fields = [
            "id", "url", "connection", "run", "bulk_edit", "plan_result", "actor", "source", "reason", "status",
            "wait_reason", "waits_for", "waits_until", "next_attempt_at", "detail", "base", "patch", "before",
            "intended", "after", "conflicts", "upstream_request_id", "http_status", "request_id", "attempts", "undoes",
            "resolves", "created_at", "sent_at", "finished_at",
        ]  # fmt: skip
        read_only_fields = fields

    @extend_schema_field(ConflictSerializer(many=True))
    def get_conflicts(self, edit: Edit) -> list[dict[str, Any]]:
        return [vars(conflict) for conflict in edits.conflicts(edit)]

    @cached_property
    def _waits(self) -> Mapping[int, edits.Wait]:
        """Of all rows of a list at once."""
        rows: Any = self.instance if self.parent is None else self.parent.instance
        return edits.waits_of([rows] if isinstance(rows, Edit) else rows)

    def get_waits_for(self, edit: Edit) -> str | None:
        return self._waits[edit.pk].what if edit.pk in self._waits else None

    @extend_schema_field(serializers.DateTimeField(allow_null=True))
    def get_waits_until(self, edit: Edit) -> str | None:
        until = self._waits[edit.pk].until if edit.pk in self._waits else None
        return None if until is None else serializers.DateTimeField().to_representation(until)


class EditOfBulkEditSerializer(EditSerializer):
    """An edit of a bulk edit. Until it is sent, `before` and `after` are what was planned."""

    before = serializers.SerializerMethodField(  # type: ignore[assignment]
        help_text="What the look found; until then, what the plan started from."
    )
    after = serializers.SerializerMethodField(  # type: ignore[assignment]
        help_text="What came back; until then, what it is to become. Null where nothing is changed."
    )

    @extend_schema_field({"type": ["object", "null"], "additionalProperties": True})
    def get_before(self, edit: Edit) -> dict[Any, Any] | None:
        return _as_map(edit.base if edit.before is None else edit.before)

    @extend_schema_field({"type": ["object", "null"], "additionalProperties": True})
    def get_after(self, edit: Edit) -> dict[Any, Any] | None:
        if edit.after is not None or edit.has_ended:
            return _as_map(edit.after)
        return _as_map(edit.patch.apply(edit.base or Metadata()) if edit.intended is None else edit.intended)


def _as_map(metadata: Metadata | None) -> dict[Any, Any] | None:
    return None if metadata is None else dict(metadata)


class NotSelectedSerializer(serializers.Serializer[Any]):
    """A run that was named and could not be chosen."""

    id = serializers.CharField()
    why = serializers.ChoiceField(["unknown", "ambiguous"])


class BulkEditSerializer(serializers.ModelSerializer[BulkEdit]):
    actor = serializers.CharField(source="actor.username")
    applied_by = serializers.CharField(source="applied_by.username", default=None, allow_null=True)
    q = serializers.CharField(
        source="query",
        help_text="The search that chose the runs. Empty: they were named. `in words: …` is no search: it tells how "
        "the list of runs was filtered, by what searches have no word for.",
    )
    set = serializers.DictField(child=serializers.CharField())
    remove = serializers.ListField(child=serializers.CharField())
    rename = serializers.DictField(child=serializers.CharField())
    wait_for_active = serializers.SerializerMethodField(help_text="Seconds.")
    url = serializers.HyperlinkedIdentityField("api:bulk-edit")

    class Meta:
        model = BulkEdit
        fields = [
            "id", "url", "connection", "q", "selected", "planned", "set", "remove", "rename", "undoes", "reason",
            "wait_for_active", "canary", "apply_when_planned", "accepts_rewrites", "status", "detail", "actor",
            "applied_by", "request_id", "created_at", "planned_at", "expires_at", "applied_at", "active_until",
            "finished_at",
        ]  # fmt: skip
        read_only_fields = fields

    def get_wait_for_active(self, bulk_edit: BulkEdit) -> int | None:
        wait = bulk_edit.wait_for_active
        return None if wait is None else int(wait.total_seconds())


class ProgressSerializer(serializers.Serializer[Any]):
    total = serializers.IntegerField(help_text="The edits that are to be sent, or were.")
    ended = serializers.IntegerField(help_text="Those of them that have their outcome.")
    statuses = serializers.DictField(child=serializers.IntegerField(), help_text="How many edits have which status.")
    plan_results = serializers.DictField(
        child=serializers.IntegerField(), help_text="What the plan found, for how many."
    )
    per_second = serializers.FloatField(allow_null=True, help_text="The pace since it was applied or resumed.")
    seconds_left = serializers.FloatField(allow_null=True, help_text="By this pace. Null while there is none.")


class BulkEditDetailSerializer(BulkEditSerializer):
    """A bulk edit, and how far it is."""

    progress = serializers.SerializerMethodField()
    waiting = serializers.SerializerMethodField(
        help_text="How many of its pending edits wait for what, apart from their turn; each edit says until when."
    )
    changed_since = serializers.SerializerMethodField(
        help_text="How many of the runs the mirror has seen changed since the plan was made, while it is not applied."
    )
    not_selected = NotSelectedSerializer(many=True, read_only=True)

    class Meta(BulkEditSerializer.Meta):
        fields = [*BulkEditSerializer.Meta.fields, "progress", "waiting", "changed_since", "not_selected"]
        read_only_fields = fields

    @extend_schema_field(ProgressSerializer)
    def get_progress(self, bulk_edit: BulkEdit) -> Any:
        return ProgressSerializer(bulk_edits.progress(bulk_edit)).data

    @extend_schema_field(serializers.DictField(child=serializers.IntegerField()))
    def get_waiting(self, bulk_edit: BulkEdit) -> dict[str, int]:
        return bulk_edits.waiting(bulk_edit)

    def get_changed_since(self, bulk_edit: BulkEdit) -> int:
        return bulk_edits.changed_since(bulk_edit)


class PlannedBulkEditSerializer(BulkEditDetailSerializer):
    """A bulk edit that was just planned."""

    duplicates = serializers.SerializerMethodField(help_text="How often an id in `run_ids` was given again.")

    class Meta(BulkEditDetailSerializer.Meta):
        fields = [*BulkEditDetailSerializer.Meta.fields, "duplicates"]
        read_only_fields = fields

    def get_duplicates(self, bulk_edit: BulkEdit) -> int:
        return int(self.context["duplicates"])


class ThreadSerializer(serializers.ModelSerializer[Thread]):
    thread_id = serializers.CharField(source="upstream_id")
    url = serializers.SerializerMethodField()

    class Meta:
        model = Thread
        fields = [
            "thread_id", "url", "connection", "tracked", "created_at", "checked_at", "fully_checked_at",
            "missing_since",
        ]  # fmt: skip
        read_only_fields = fields

    def get_url(self, thread: Thread) -> str:
        return Addresses(self.context["request"]).thread(thread)


class TrackedSerializer(serializers.Serializer[Any]):
    thread_id = serializers.CharField()
    outcome = serializers.ChoiceField(["added", "already", "invalid"])
    url = serializers.URLField(allow_null=True)


class TrackedThreads(serializers.Serializer[Any]):
    connection = serializers.CharField()
    results = TrackedSerializer(many=True)
    duplicates = serializers.IntegerField(help_text="How often an id was given again.")


class SyncErrorSerializer(serializers.ModelSerializer[SyncError]):
    thread_id = serializers.CharField(source="thread.upstream_id", default=None, allow_null=True)

    class Meta:
        model = SyncError
        fields = ["thread_id", "run_id", "message", "created_at"]
        read_only_fields = fields


class SyncSerializer(serializers.ModelSerializer[Sync]):
    thread_id = serializers.CharField(source="thread.upstream_id", default=None, allow_null=True)
    actor = serializers.CharField(source="actor.username", default=None, allow_null=True)
    url = serializers.HyperlinkedIdentityField("api:sync")

    class Meta:
        model = Sync
        fields = [
            "id", "url", "connection", "kind", "thread_id", "actor", "status", "detail", "threads_total",
            "threads_done", "pages", "runs_seen", "runs_created", "runs_updated", "errors_count", "created_at",
            "started_at", "finished_at",
        ]  # fmt: skip
        read_only_fields = fields


class SyncDetailSerializer(SyncSerializer):
    """A pass with the first hundred of its errors."""

    errors = serializers.SerializerMethodField()  # type: ignore[assignment]

    class Meta(SyncSerializer.Meta):
        fields = [*SyncSerializer.Meta.fields, "errors"]
        read_only_fields = fields

    @extend_schema_field(SyncErrorSerializer(many=True))
    def get_errors(self, sync: Sync) -> Any:
        return SyncErrorSerializer(sync.errors.select_related("thread").order_by("pk")[:100], many=True).data


class ErrorSerializer(serializers.Serializer[Any]):
    """One mistake: `field` is the parameter or the field of the body, `key` the key of the metadata."""

    field = serializers.CharField(allow_null=True)
    key = serializers.CharField(allow_null=True)
    code = serializers.CharField()
    message = serializers.CharField()


class ProblemSerializer(serializers.Serializer[Any]):
    """Problem details (RFC 9457)."""

    type = serializers.CharField(help_text="Stays the same for the same kind of problem: docs/rest-api.md lists them.")
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField(help_text="What happened, and what to do.")
    errors = ErrorSerializer(many=True, required=False)  # type: ignore[assignment]
    conflicts = ConflictSerializer(many=True, required=False)
    edit = EditSerializer(required=False)
    not_selected = NotSelectedSerializer(many=True, required=False)


def page_shape(of: type[serializers.BaseSerializer[Any]], name: str) -> type[serializers.Serializer[Any]]:
    """The shape of a page of these, for the schema."""
    fields = {
        "results": of(many=True),
        "next": serializers.URLField(allow_null=True),
        "previous": serializers.URLField(allow_null=True),
    }
    return type(name, (serializers.Serializer,), fields)


RunPage = page_shape(RunSerializer, "RunPage")
EditPage = page_shape(EditSerializer, "EditPage")
BulkEditPage = page_shape(BulkEditSerializer, "BulkEditPage")
EditOfBulkEditPage = page_shape(EditOfBulkEditSerializer, "EditOfBulkEditPage")
ThreadPage = page_shape(ThreadSerializer, "ThreadPage")
SyncPage = page_shape(SyncSerializer, "SyncPage")
