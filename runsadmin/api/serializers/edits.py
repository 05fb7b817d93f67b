from collections.abc import Mapping
from functools import cached_property
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework.serializers import (
    CharField,
    ChoiceField,
    DateTimeField,
    DictField,
    HyperlinkedIdentityField,
    IntegerField,
    SerializerMethodField,
)

from runsadmin.api.fields import ConnectionField, MetadataPatchField, UpstreamField
from runsadmin.api.serializers.documented import DocumentedModelSerializer, DocumentedSerializer
from runsadmin.api.serializers.strict import ReasonField, StrictSerializer
from runsadmin.metadata import Metadata
from runsadmin.models import Edit
from runsadmin.services import edits

_URL = "http://runsadmin.example/api/v1/edits/17/"


class MetadataMapField(DictField):
    """Metadata as stored. Lax servers send values that are not strings."""

    def to_representation(self, value: Mapping[Any, Any]) -> dict[Any, Any]:
        return dict(value)


_METADATA = MetadataMapField(allow_null=True)
_VALUE = UpstreamField("string")


class ConflictSerializer(DocumentedSerializer):
    """One key in conflict. Null means that the key is absent."""

    docs = {
        "key": ("The key.", "team", CharField()),
        "base": ("The value that the actor saw.", "ads", _VALUE),
        "theirs": ("The value that upstream has.", "sales", _VALUE),
        "ours": ("The value that the actor wants.", "search", _VALUE),
    }


class EditSerializer(DocumentedModelSerializer[Edit]):
    docs = {
        "id": ("The id of the edit.", 17),
        "url": ("The URL of this edit.", _URL, HyperlinkedIdentityField("api:edit-detail")),
        "connection": ("The alias of its connection.", "default", CharField(source="run.connection")),
        "run": ("The id of the run.", "run_abc123", CharField(source="run.upstream_id")),
        "bulk_edit": ("The bulk edit that it belongs to, or null.", None),
        "plan_result": ("What planning found, or empty.", "", ChoiceField(Edit.PlanResult.choices, allow_blank=True)),
        "actor": ("Who made the edit.", "alice", CharField(source="actor.username")),
        "source": ("Where it was recorded: `admin`, `api` or `command`.", "api"),
        "reason": ("The reason that the actor gave.", "Team was renamed"),
        "status": ("The status of the edit.", "applied"),
        "wait_reason": ("Why a pending edit waits. Empty if it only waits for its turn.", ""),
        "waits_for": (
            "What the edit waits for: text that completes “Waits for …”. Null if it has ended or is planned.",
            None,
            SerializerMethodField(),
        ),
        "waits_until": ("When the wait ends at the latest. Null if not known.", None, SerializerMethodField()),
        "next_attempt_at": ("When it is tried next, or null.", None),
        "detail": ("What happened last.", ""),
        "base": ("The metadata that the actor saw, or null.", {"team": "ads"}, _METADATA),
        "patch": ("The change, as a merge patch.", {"team": "search"}, MetadataMapField(source="patch.as_merge_patch")),
        "before": ("The metadata that upstream had before the write.", {"team": "ads", "ticket": "OPS-17"}, _METADATA),
        "intended": ("The metadata that was sent.", {"team": "search", "ticket": "OPS-17"}, _METADATA),
        "after": ("The metadata that upstream returned.", {"team": "search", "ticket": "OPS-17"}, _METADATA),
        "conflicts": ("The keys in conflict, for the status `conflict`.", [], SerializerMethodField()),
        "upstream_request_id": ("The id that upstream gave the request.", "req_abc123"),
        "http_status": ("The status of upstream's last response.", 200, IntegerField(allow_null=True)),
        "request_id": ("The `X-Request-ID` of the request that made the edit.", "job-7"),
        "attempts": ("How many attempts failed before anything was sent.", 0),
        "undoes": ("The edit that it undoes, or null.", None),
        "resolves": ("The edit whose conflict it resolves, or null.", None),
        "restored_from": ("When the backup was made, while a restored edit waits for release. Otherwise null.", None),
        "created_at": ("When it was recorded.", "2026-01-31T09:00:00Z"),
        "sent_at": ("When the last write started, or null.", "2026-01-31T09:00:00.120000Z"),
        "finished_at": ("When it ended, or null.", "2026-01-31T09:00:00.250000Z"),
    }

    class Meta:
        model = Edit

    @extend_schema_field(ConflictSerializer(many=True))
    def get_conflicts(self, edit: Edit) -> list[dict[str, Any]]:
        return [vars(conflict) for conflict in edits.conflicts(edit)]

    @cached_property
    def _waits(self) -> Mapping[int, edits.Wait]:
        """The waits of all rows of a list, read at once."""
        rows: Any = self.instance if self.parent is None else self.parent.instance
        return edits.waits_of([rows] if isinstance(rows, Edit) else rows)

    def get_waits_for(self, edit: Edit) -> str | None:
        return self._waits[edit.pk].what if edit.pk in self._waits else None

    @extend_schema_field(DateTimeField(allow_null=True))
    def get_waits_until(self, edit: Edit) -> str | None:
        until = self._waits[edit.pk].until if edit.pk in self._waits else None
        return None if until is None else DateTimeField().to_representation(until)


class LatestEditSerializer(EditSerializer):
    """A summary of an edit, shown with its run."""

    docs = {
        name: EditSerializer.docs[name]
        for name in (
            "id", "status", "detail", "waits_for", "waits_until", "next_attempt_at", "upstream_request_id", "url"
        )
    }  # fmt: skip


class PlannedEditSerializer(EditSerializer):
    """An edit of a bulk edit. Until it is sent, `before` and `after` are the planned values."""

    docs = EditSerializer.docs | {
        "bulk_edit": ("The bulk edit that it belongs to.", 7),
        "plan_result": ("What the plan found.", "change"),
        "before": ("What the fetch found; until then, what the plan started from.", {"team": "ads"}, _METADATA),
        "after": ("What upstream returned; until then, what is planned.", {"team": "search"}, _METADATA),
    }

    def to_representation(self, instance: Edit) -> dict[str, Any]:
        shown = super().to_representation(instance)
        if instance.before is None:
            shown["before"] = shown["base"]
        if instance.after is None and not instance.has_ended:
            intended = instance.intended
            shown["after"] = dict(instance.patch.apply(instance.base or Metadata()) if intended is None else intended)
        return shown


class ReleaseEditsBody(StrictSerializer):
    examples = {"One connection": {"connection": "default"}}

    connection = ConnectionField(help_text="The alias of the connection.")


class ReleasedEditsSerializer(DocumentedSerializer):
    docs = {
        "connection": ("The alias of the connection.", "default", CharField()),
        "released_edits": ("How many edits were released.", 3, IntegerField()),
    }


class UndoEditBody(StrictSerializer):
    examples = {"A reason": {"reason": "Set by mistake"}}

    reason = ReasonField()


class ResolveEditBody(UndoEditBody):
    examples = {"Agreed": {"metadata": {"team": "search"}, "reason": "Agreed with bob"}}

    metadata = MetadataPatchField(help_text="The change to make to upstream's current metadata. Null removes a key.")
