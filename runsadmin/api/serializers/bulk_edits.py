from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework.serializers import (
    CharField,
    ChoiceField,
    DictField,
    FloatField,
    HyperlinkedIdentityField,
    ListField,
    SerializerMethodField,
    ValidationError,
)

from runsadmin.api.fields import (
    KEY,
    MAX_SEARCH_LENGTH,
    TEXT,
    BooleanField,
    ConnectionField,
    IdListField,
    IntegerField,
    StringField,
    StringListField,
    StringMapField,
)
from runsadmin.api.serializers.documented import DocumentedModelSerializer, DocumentedSerializer
from runsadmin.api.serializers.strict import StrictSerializer
from runsadmin.models import BulkEdit
from runsadmin.models.bulk_edit import MAX_REASON_LENGTH
from runsadmin.services import bulk_edits


class UndoBulkEditBody(StrictSerializer):
    examples = {"A reason": {"reason": "Wrong team"}}

    reason = StringField(
        max_length=MAX_REASON_LENGTH,
        trim_whitespace=True,
        error_messages={"blank": "A bulk edit needs a reason."},
        help_text="Why. Required.",
    )


class PlanBulkEditBody(UndoBulkEditBody):
    examples = {
        "A search": {
            "q": "status:completed metadata.team:ads",
            "set": {"team": "search", "batch": "{model}"},
            "remove": ["old"],
            "rename": {"owner": "lead"},
            "reason": "Team was renamed",
            "canary": 10,
        },
        "Runs by id, applied at once": {
            "run_ids": ["run_abc123"],
            "set": {"team": "ads"},
            "reason": "Team was renamed",
            "apply": True,
        },
    }

    q = StringField(
        max_length=MAX_SEARCH_LENGTH,
        trim_whitespace=True,
        required=False,
        error_messages={"blank": "This would select every run. If you mean that, use `connection:ALIAS`."},
        help_text="A search: all runs that match now. `connection:ALIAS` selects every run of a connection.",
    )
    run_ids = IdListField(
        max_length=100_000,
        advice="A search (`q`) has no limit.",
        required=False,
        help_text="The ids of runs. Unknown and ambiguous ids are reported in `not_selected`.",
    )
    connection = ConnectionField(default=None, help_text="Only runs of the connection with this alias.")
    set = StringMapField(
        values=TEXT,
        default=dict,
        help_text="Pairs to set. A value may refer to fields of the run: `{model}`, `{status}`, `{created:%Y-%m}`.",
    )
    remove = StringListField(
        schema={"type": "array", "items": KEY, "uniqueItems": True}, default=list, help_text="Keys to remove."
    )
    rename = StringMapField(values=KEY, default=dict, help_text="Keys to rename, with their new names.")
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
        help_text="Pause after so many edits.",
    )
    apply = BooleanField(
        default=False,
        help_text="Apply the plan as soon as it is complete, without a review. Needs the permission to apply.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("q" in attrs) == ("run_ids" in attrs):
            raise ValidationError("Give either `q` or `run_ids`.", code="required")
        return attrs


class NotSelectedSerializer(DocumentedSerializer):
    """An id in `run_ids` that selects no run."""

    docs = {
        "id": ("The id as it was given.", "run_abc123", CharField()),
        "why": ("If no run has it, or runs of several connections.", "unknown", ChoiceField(["unknown", "ambiguous"])),
    }


class BulkEditSerializer(DocumentedModelSerializer[BulkEdit]):
    docs = {
        "id": ("The id of the bulk edit.", 7),
        "url": ("The URL of this bulk edit.", "http://runsadmin.example/api/v1/bulk-edits/7/"),
        "connection": ("The alias of the connection of its runs.", "default"),
        "q": (
            "The search that selected the runs. Empty: they were given by id. `in words: …` describes other filters.",
            "status:completed metadata.team:ads",
        ),
        "selected": ("How many runs were selected.", 120),
        "planned": ("For how many of them the plan is made.", 120),
        "set": ("Pairs to set.", {"team": "search"}, DictField(child=CharField())),
        "remove": ("Keys to remove.", ["old"], ListField(child=CharField())),
        "rename": ("Keys to rename, with their new names.", {}, DictField(child=CharField())),
        "undoes": ("The bulk edit that it undoes, or null.", None),
        "reason": ("Why, in the actor's words.", "Team was renamed"),
        "wait_for_active": ("How long it waits for active runs, in seconds. Null: they are skipped.", None),
        "canary": ("It pauses after this many edits. Null: it does not pause.", 10),
        "apply_when_planned": ("It is applied as soon as its plan is complete.", False),
        "accepts_rewrites": ("Resumed although upstream changed keys that its edits do not touch.", False),
        "status": ("The status of the bulk edit.", "planned"),
        "detail": ("The last thing that happened, in words.", ""),
        "actor": ("Who planned it.", "alice", CharField(source="actor.username")),
        "source": ("Where it was planned: `admin`, `api` or `command`.", "api"),
        "applied_by": ("Who applied it, or null.", None),
        "request_id": ("The `X-Request-ID` of the request that planned it.", "job-7"),
        "created_at": ("When it was requested.", "2026-01-31T09:00:00Z"),
        "planned_at": ("When its plan was complete, or null.", "2026-01-31T09:00:01Z"),
        "expires_at": ("When its plan expires, or null.", "2026-02-07T09:00:01Z"),
        "applied_at": ("When it was applied, or null.", None),
        "active_until": ("When it stops waiting for active runs, or null.", None),
        "finished_at": ("When it ended, or null.", None),
    }

    applied_by = CharField(source="applied_by.username", default=None, allow_null=True)
    q = CharField(source="query")
    wait_for_active = SerializerMethodField()
    url = HyperlinkedIdentityField("api:bulk-edit-detail")

    class Meta:
        model = BulkEdit

    def get_wait_for_active(self, bulk_edit: BulkEdit) -> int | None:
        wait = bulk_edit.wait_for_active
        return None if wait is None else int(wait.total_seconds())


class ProgressSerializer(DocumentedSerializer):
    docs = {
        "total": ("How many edits change their run.", 118, IntegerField()),
        "ended": ("How many of them have ended.", 0, IntegerField()),
        "statuses": ("Edits by status.", {"planned": 118, "skipped": 2}, DictField(child=IntegerField())),
        "plan_results": ("Edits by plan result.", {"change": 118, "nothing": 2}, DictField(child=IntegerField())),
        "per_second": ("Edits ended per second since it was applied or resumed.", None, FloatField(allow_null=True)),
        "seconds_left": ("The time left at this rate. Null if unknown.", None, FloatField(allow_null=True)),
    }


class BulkEditDetailSerializer(BulkEditSerializer):
    """A bulk edit with its progress."""

    docs = BulkEditSerializer.docs | {
        "progress": ("How far it is.", ProgressSerializer.example(), SerializerMethodField()),
        "waiting": ("Pending edits by `wait_reason`, without those whose turn it is.", {}, SerializerMethodField()),
        "changed_since": ("How many of its runs have changed since it was planned.", 0, SerializerMethodField()),
        "not_selected": ("Ids that select no run.", [], NotSelectedSerializer(many=True, read_only=True)),
    }

    @extend_schema_field(ProgressSerializer)
    def get_progress(self, bulk_edit: BulkEdit) -> Any:
        return ProgressSerializer(bulk_edits.progress(bulk_edit)).data

    @extend_schema_field(DictField(child=IntegerField()))
    def get_waiting(self, bulk_edit: BulkEdit) -> dict[str, int]:
        return bulk_edits.waiting(bulk_edit)

    def get_changed_since(self, bulk_edit: BulkEdit) -> int:
        return bulk_edits.changed_since(bulk_edit)


class NewBulkEditSerializer(BulkEditDetailSerializer):
    """A bulk edit that was just planned."""

    docs = BulkEditDetailSerializer.docs | {
        "duplicates": ("How many ids in `run_ids` were repetitions.", 0, SerializerMethodField())
    }

    def get_duplicates(self, bulk_edit: BulkEdit) -> int:
        ids = self.context["view"].body.get("run_ids", ())
        return len(ids) - len({*ids})
