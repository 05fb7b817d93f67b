from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework.serializers import (
    CharField,
    ChoiceField,
    DictField,
    FloatField,
    HyperlinkedIdentityField,
    IntegerField,
    ListField,
    SerializerMethodField,
)

from runsadmin.api import fields
from runsadmin.api.serializers.documented import DocumentedModelSerializer, DocumentedSerializer
from runsadmin.api.serializers.strict import StrictSerializer
from runsadmin.models import BulkEdit
from runsadmin.models.bulk_edit import MAX_REASON_LENGTH
from runsadmin.services import bulk_edits


class UndoBulkEditBody(StrictSerializer):
    examples = {"A reason": {"reason": "Wrong team"}}

    reason = fields.StringField(
        max_length=MAX_REASON_LENGTH,
        trim_whitespace=True,
        error_messages={"blank": "A bulk edit needs a reason."},
        help_text="The reason for the bulk edit. Required.",
    )


class PlanBulkEditBody(UndoBulkEditBody):
    one_of = {"q": "PlanBySearch", "run_ids": "PlanById"}
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

    q = fields.SearchField(
        trim_whitespace=True,
        required=False,
        error_messages={"blank": "This would select every run. If that is intended, use `connection:ALIAS`."},
        help_text="A search that selects all runs that match now. `connection:ALIAS` selects all runs of a connection.",
    )
    run_ids = fields.IdListField(
        max_length=100_000,
        advice="A search (`q`) has no limit.",
        required=False,
        help_text="The ids of runs. Unknown and ambiguous ids are reported in `not_selected`.",
    )
    tz = fields.TimeZoneField()
    connection = fields.ConnectionField(default=None, help_text="Only runs of the connection with this alias.")
    set = fields.StringMapField(
        values=fields.TEXT,
        default=dict,
        help_text="Pairs to set. A value may refer to fields of the run: `{model}`, `{status}`, `{created:%Y-%m}`.",
    )
    remove = fields.StringListField(
        schema={"type": "array", "items": fields.KEY, "uniqueItems": True}, default=list, help_text="Keys to remove."
    )
    rename = fields.StringMapField(values=fields.KEY, default=dict, help_text="Keys to rename, with their new names.")
    wait_for_active = fields.IntegerField(
        default=None,
        allow_null=True,
        min_value=1,
        max_value=int(bulk_edits.LONGEST_WAIT.total_seconds()),
        help_text="How many seconds to wait for active runs after the plan is applied. Null: active runs are skipped.",
    )
    canary = fields.IntegerField(
        default=None,
        allow_null=True,
        min_value=1,
        max_value=bulk_edits.MAX_RUNS,
        help_text="Pause after this many edits.",
    )
    apply = fields.BooleanField(
        default=False,
        help_text="Apply the plan as soon as it is complete, without a review. Requires the permission to apply.",
    )


class NotSelectedSerializer(DocumentedSerializer):
    """An id in `run_ids` that selects no run."""

    docs = {
        "id": ("The id in the request.", "run_abc123", CharField()),
        "why": (
            "`unknown`: no run has this id. `ambiguous`: runs of several connections have it.",
            "unknown",
            ChoiceField(["unknown", "ambiguous"]),
        ),
    }


class BulkEditSerializer(DocumentedModelSerializer[BulkEdit]):
    docs = {
        "id": ("The id of the bulk edit.", 7),
        "url": ("The URL of this bulk edit.", "http://runsadmin.example/api/v1/bulk-edits/7/"),
        "connection": ("The alias of the connection that has the runs.", "default"),
        "q": (
            "The search that selected the runs. Empty if selected by id.",
            "status:completed metadata.team:ads",
        ),
        "tz": ("The time zone of the dates and times in `q`.", "UTC"),
        "selected": ("How many runs were selected.", 120),
        "planned": ("How many of the selected runs have been planned.", 120),
        "set": ("Pairs to set.", {"team": "search"}, DictField(child=CharField())),
        "remove": ("Keys to remove.", ["old"], ListField(child=CharField())),
        "rename": ("Keys to rename, with their new names.", {}, DictField(child=CharField())),
        "undoes": ("The bulk edit that this one undoes, or null.", None),
        "reason": ("The reason that the actor gave.", "Team was renamed"),
        "wait_for_active": ("How many seconds it waits for active runs. Null: active runs are skipped.", None),
        "canary": ("After how many edits it pauses. Null if it has no canary.", 10),
        "apply_when_planned": ("Whether it is applied as soon as its plan is complete.", False),
        "accepts_rewrites": ("Whether it was resumed after upstream had changed keys that no edit touched.", False),
        "status": ("The status of the bulk edit.", "planned"),
        "detail": ("What happened last.", ""),
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
        "total": ("How many edits the bulk edit sends.", 118, IntegerField()),
        "ended": ("How many edits have ended.", 0, IntegerField()),
        "statuses": ("The number of edits by status.", {"planned": 118, "skipped": 2}, DictField(child=IntegerField())),
        "plan_results": (
            "The number of edits by plan result.",
            {"change": 118, "nothing": 2},
            DictField(child=IntegerField()),
        ),
        "per_second": (
            "How many edits per second have ended since the bulk edit was applied or resumed. Null if unknown.",
            None,
            FloatField(allow_null=True),
        ),
        "seconds_left": (
            "In how many seconds all edits are expected to have ended. Null if unknown.",
            None,
            FloatField(allow_null=True),
        ),
    }


class BulkEditDetailSerializer(BulkEditSerializer):
    """A bulk edit with its progress."""

    docs = BulkEditSerializer.docs | {
        "progress": ("The progress of the bulk edit.", ProgressSerializer.example(), SerializerMethodField()),
        "waiting": (
            "The number of pending edits for each `wait_reason`. Edits that only wait for their turn are not counted.",
            {},
            SerializerMethodField(),
        ),
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
        "duplicates": ("How many ids in `run_ids` were duplicates.", 0, SerializerMethodField())
    }

    def get_duplicates(self, bulk_edit: BulkEdit) -> int:
        ids = self.context["view"].body.get("run_ids", ())
        return len(ids) - len({*ids})
