from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from runsadmin.api.fields import (
    BooleanField,
    ConnectionField,
    IntegerField,
    KeysToRemoveField,
    KeysToRenameField,
    PairsToSetField,
    RunIdsField,
    SearchField,
    StringField,
)
from runsadmin.api.serializers.strict import StrictSerializer
from runsadmin.models import BulkEdit
from runsadmin.models.bulk_edit import MAX_REASON_LENGTH
from runsadmin.services import bulk_edits

EXAMPLE = {
    "id": 7,
    "url": "http://runsadmin.example/api/v1/bulk-edits/7/",
    "connection": "default",
    "q": "status:completed metadata.team:ads",
    "selected": 120,
    "planned": 120,
    "set": {"team": "search"},
    "remove": ["old"],
    "rename": {},
    "undoes": None,
    "reason": "Team was renamed",
    "wait_for_active": None,
    "canary": 10,
    "apply_when_planned": False,
    "accepts_rewrites": False,
    "status": "planned",
    "detail": "",
    "actor": "alice",
    "applied_by": None,
    "request_id": "job-7",
    "created_at": "2026-01-31T09:00:00Z",
    "planned_at": "2026-01-31T09:00:01Z",
    "expires_at": "2026-02-07T09:00:01Z",
    "applied_at": None,
    "active_until": None,
    "finished_at": None,
}
DETAIL_EXAMPLE = EXAMPLE | {
    "progress": {
        "total": 118,
        "ended": 0,
        "statuses": {"planned": 118, "skipped": 2},
        "plan_results": {"change": 118, "nothing": 2},
        "per_second": None,
        "seconds_left": None,
    },
    "waiting": {},
    "changed_since": 0,
    "not_selected": [],
}
PLAN_EXAMPLE = {
    "q": "status:completed metadata.team:ads",
    "set": {"team": "search", "batch": "{model} of {created:%Y-%m}"},
    "remove": ["old"],
    "rename": {"owner": "lead"},
    "reason": "Team was renamed",
    "canary": 10,
}
APPLY_AT_ONCE_EXAMPLE = {
    "run_ids": ["run_abc123", "run_abc456"],
    "set": {"team": "search"},
    "reason": "Team was renamed",
    "apply": True,
}


class BulkReasonBody(StrictSerializer):
    reason = StringField(
        max_length=MAX_REASON_LENGTH,
        trim_whitespace=True,
        error_messages={"blank": "A bulk edit needs a reason."},
        help_text="Why. Required.",
    )


@extend_schema_serializer(examples=[OpenApiExample("A reason", {"reason": "Wrong team"})])
class UndoBulkEditBody(BulkReasonBody):
    pass


@extend_schema_serializer(
    examples=[
        OpenApiExample("A search", PLAN_EXAMPLE),
        OpenApiExample("Runs by id, applied at once", APPLY_AT_ONCE_EXAMPLE),
    ]
)
class PlanBulkEditBody(BulkReasonBody):
    q = SearchField(
        required=False,
        help_text="A search: all runs that match now. `connection:ALIAS` selects every run of a connection.",
    )
    run_ids = RunIdsField(
        required=False, help_text="The ids of runs. Unknown and ambiguous ids are reported in `not_selected`."
    )
    connection = ConnectionField(required=False, help_text="Only runs of the connection with this alias.")
    set = PairsToSetField(
        default=dict,
        help_text="Pairs to set. A value may refer to fields of the run: `{model}`, `{status}`, `{created:%Y-%m}`.",
    )
    remove = KeysToRemoveField(default=list, help_text="Keys to remove.")
    rename = KeysToRenameField(default=dict, help_text="Keys to rename, with their new names.")
    wait_for_active = IntegerField(
        default=None,
        allow_null=True,
        min_value=1,
        max_value=int(bulk_edits.LONGEST_WAIT.total_seconds()),
        help_text="How many seconds, once applied, to wait for active runs to end. Null leaves active runs out.",
    )
    canary = IntegerField(
        default=None,
        allow_null=True,
        min_value=1,
        max_value=bulk_edits.MOST_RUNS,
        help_text="Pause after this many edits. Null does not pause.",
    )
    apply = BooleanField(
        default=False,
        help_text="Apply the plan as soon as it is complete, without a review. Needs the permission to apply.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("q" in attrs) == ("run_ids" in attrs):
            raise serializers.ValidationError("Give either `q` or `run_ids`.", code="required")
        return attrs

    def validate_q(self, query: str) -> str:
        if not query.strip():
            raise serializers.ValidationError(
                "An empty search would select every run. If you mean that, use `connection:ALIAS`.", code="blank"
            )
        return query


class NotSelectedSerializer(serializers.Serializer[Any]):
    """An id in `run_ids` that selects no run."""

    id = serializers.CharField(help_text="The id as it was given.")
    why = serializers.ChoiceField(
        ["unknown", "ambiguous"],
        help_text="Whether the mirror has no such run, or several connections have one.",
    )


@extend_schema_serializer(examples=[OpenApiExample("A plan", EXAMPLE, response_only=True)])
class BulkEditSerializer(serializers.ModelSerializer[BulkEdit]):
    actor = serializers.CharField(source="actor.username", help_text="Who planned it.")
    applied_by = serializers.CharField(
        source="applied_by.username", default=None, allow_null=True, help_text="Who applied it, or null."
    )
    q = serializers.CharField(
        source="query",
        help_text="The search that selected the runs. Empty: they were given by id. `in words: …` is not a search: "
        "it describes filters of the admin that a search cannot express.",
    )
    set = serializers.DictField(child=serializers.CharField(), help_text="Pairs to set.")
    remove = serializers.ListField(child=serializers.CharField(), help_text="Keys to remove.")
    rename = serializers.DictField(child=serializers.CharField(), help_text="Keys to rename, with their new names.")
    wait_for_active = serializers.SerializerMethodField(
        help_text="How many seconds, once applied, it waits for active runs to end. Null: they are left out."
    )
    url = serializers.HyperlinkedIdentityField("api:bulk-edit-detail", help_text="The URL of this bulk edit here.")

    class Meta:
        model = BulkEdit
        fields = [
            "id", "url", "connection", "q", "selected", "planned", "set", "remove", "rename", "undoes", "reason",
            "wait_for_active", "canary", "apply_when_planned", "accepts_rewrites", "status", "detail", "actor",
            "applied_by", "request_id", "created_at", "planned_at", "expires_at", "applied_at", "active_until",
            "finished_at",
        ]  # fmt: skip
        read_only_fields = fields
        extra_kwargs = {
            "id": {"help_text": "The id of the bulk edit."},
            "connection": {"help_text": "The alias of the connection of its runs."},
            "selected": {"help_text": "How many runs were selected."},
            "planned": {"help_text": "For how many of them the plan is made."},
            "undoes": {"help_text": "The bulk edit that it undoes, or null."},
            "reason": {"help_text": "Why, in the actor's words."},
            "canary": {"help_text": "It pauses after this many edits. Null: it does not pause."},
            "apply_when_planned": {"help_text": "It is applied as soon as its plan is complete."},
            "accepts_rewrites": {"help_text": "Resumed although upstream changed keys that its edits do not touch."},
            "status": {"help_text": "The status of the bulk edit."},
            "detail": {"help_text": "The last thing that happened, in words."},
            "request_id": {"help_text": "The `X-Request-ID` of the request that planned it."},
            "created_at": {"help_text": "When it was requested."},
            "planned_at": {"help_text": "When its plan was complete, or null."},
            "expires_at": {"help_text": "Until when its plan can be applied, or null."},
            "applied_at": {"help_text": "When it was applied, or null."},
            "active_until": {"help_text": "Until when it waits for active runs, or null."},
            "finished_at": {"help_text": "When it ended, or null."},
        }

    def get_wait_for_active(self, bulk_edit: BulkEdit) -> int | None:
        wait = bulk_edit.wait_for_active
        return None if wait is None else int(wait.total_seconds())


class ProgressSerializer(serializers.Serializer[Any]):
    total = serializers.IntegerField(help_text="How many edits change their run.")
    ended = serializers.IntegerField(help_text="How many of them have ended.")
    statuses = serializers.DictField(child=serializers.IntegerField(), help_text="How many edits have which status.")
    plan_results = serializers.DictField(
        child=serializers.IntegerField(), help_text="How many edits have which plan result."
    )
    per_second = serializers.FloatField(
        allow_null=True, help_text="How many edits have ended per second since it was applied or resumed."
    )
    seconds_left = serializers.FloatField(allow_null=True, help_text="The time left at this rate. Null if unknown.")


@extend_schema_serializer(
    examples=[OpenApiExample("A plan", DETAIL_EXAMPLE, response_only=True, status_codes=["200", "202"])]
)
class BulkEditDetailSerializer(BulkEditSerializer):
    """A bulk edit with its progress."""

    progress = serializers.SerializerMethodField(help_text="How far it is.")
    waiting = serializers.SerializerMethodField(
        help_text="How many pending edits wait for what, other than their turn, by `wait_reason`."
    )
    changed_since = serializers.SerializerMethodField(
        help_text="How many of its runs have changed since the plan was made. 0 once it is applied."
    )
    not_selected = NotSelectedSerializer(many=True, read_only=True, help_text="Ids that select no run.")

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


@extend_schema_serializer(
    examples=[OpenApiExample("A plan", DETAIL_EXAMPLE | {"duplicates": 0}, response_only=True, status_codes=["202"])]
)
class NewBulkEditSerializer(BulkEditDetailSerializer):
    """A bulk edit that was just planned."""

    duplicates = serializers.SerializerMethodField(help_text="How many ids in `run_ids` were repetitions.")

    class Meta(BulkEditDetailSerializer.Meta):
        fields = [*BulkEditDetailSerializer.Meta.fields, "duplicates"]
        read_only_fields = fields

    def get_duplicates(self, bulk_edit: BulkEdit) -> int:
        return int(self.context["duplicates"])
