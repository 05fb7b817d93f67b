from collections.abc import Mapping
from functools import cached_property
from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from runsadmin.api.fields import MetadataPatchField
from runsadmin.api.serializers.strict import ReasonField, StrictSerializer
from runsadmin.metadata import Metadata, MetadataPatch
from runsadmin.models import Edit
from runsadmin.services import edits

EXAMPLE = {
    "id": 17,
    "url": "http://runsadmin.example/api/v1/edits/17/",
    "connection": "default",
    "run": "run_abc123",
    "bulk_edit": None,
    "plan_result": "",
    "actor": "alice",
    "source": "api",
    "reason": "Team was renamed",
    "status": "applied",
    "wait_reason": "",
    "waits_for": None,
    "waits_until": None,
    "next_attempt_at": None,
    "detail": "",
    "base": {"team": "ads"},
    "patch": {"team": "search"},
    "before": {"team": "ads", "ticket": "OPS-17"},
    "intended": {"team": "search", "ticket": "OPS-17"},
    "after": {"team": "search", "ticket": "OPS-17"},
    "conflicts": [],
    "upstream_request_id": "req_abc123",
    "http_status": 200,
    "request_id": "job-7",
    "attempts": 0,
    "undoes": None,
    "resolves": None,
    "created_at": "2026-01-31T09:00:00Z",
    "sent_at": "2026-01-31T09:00:00.120000Z",
    "finished_at": "2026-01-31T09:00:00.250000Z",
}

WAITS_FOR = "What it waits for: completes “Waits for …”. Null when it has ended or is only planned."
WAITS_UNTIL = "When the wait ends at the latest. Null where an event ends it, which `waits_for` names."


class LatestEditSerializer(serializers.ModelSerializer[Edit]):
    """An edit in short, beside its run."""

    waits_for = serializers.CharField(allow_null=True, help_text=WAITS_FOR)
    waits_until = serializers.DateTimeField(allow_null=True, help_text=WAITS_UNTIL)
    url = serializers.HyperlinkedIdentityField("api:edit-detail", help_text="The URL of the edit here.")

    class Meta:
        model = Edit
        fields = [
            "id", "status", "detail", "waits_for", "waits_until", "next_attempt_at", "upstream_request_id", "url",
        ]  # fmt: skip
        read_only_fields = fields
        extra_kwargs = {
            "id": {"help_text": "The id of the edit."},
            "status": {"help_text": "The status of the edit."},
            "next_attempt_at": {"help_text": "When it is tried next, or null."},
            "upstream_request_id": {"help_text": "The id that upstream gave the write."},
        }


class MetadataMapField(serializers.DictField):
    """Metadata as it is stored: other servers may send more than strings."""

    def to_representation(self, value: Mapping[Any, Any]) -> dict[Any, Any]:
        return dict(value)


class MergePatchField(MetadataMapField):
    def to_representation(self, value: Any) -> dict[Any, Any]:
        patch: MetadataPatch = value
        return patch.as_merge_patch()


@extend_schema_field({"type": ["string", "null"]})
class ConflictValueField(serializers.JSONField):
    pass


class ConflictSerializer(serializers.Serializer[Any]):
    """One key in conflict. Null means that the key is absent."""

    key = serializers.CharField(help_text="The key.")
    base = ConflictValueField(help_text="Its value that the actor saw.")
    theirs = ConflictValueField(help_text="Its value upstream now.")
    ours = ConflictValueField(help_text="The value that the actor wants.")


@extend_schema_serializer(
    examples=[OpenApiExample("An applied edit", EXAMPLE, response_only=True, status_codes=["200", "201", "202"])]
)
class EditSerializer(serializers.ModelSerializer[Edit]):
    run = serializers.CharField(source="run.upstream_id", help_text="The id of the run.")
    connection = serializers.CharField(source="run.connection", help_text="The alias of the connection of the run.")
    plan_result = serializers.ChoiceField(
        Edit.PlanResult.choices,
        allow_blank=True,
        help_text="What the plan of its bulk edit found. Empty for a single edit.",
    )
    actor = serializers.CharField(source="actor.username", help_text="Who made the edit.")
    base = MetadataMapField(allow_null=True, help_text="The metadata that the actor saw, or null.")
    patch = MergePatchField(help_text="The change, as a merge patch.")
    before = MetadataMapField(allow_null=True, help_text="The metadata that upstream had before the write.")
    intended = MetadataMapField(allow_null=True, help_text="The metadata that was sent.")
    after = MetadataMapField(allow_null=True, help_text="The metadata that upstream returned.")
    conflicts = serializers.SerializerMethodField(help_text="The keys in conflict, for the status `conflict`.")
    waits_for = serializers.SerializerMethodField(help_text=WAITS_FOR)
    waits_until = serializers.SerializerMethodField(help_text=WAITS_UNTIL)
    http_status = serializers.IntegerField(allow_null=True, help_text="The status of upstream's last response.")
    url = serializers.HyperlinkedIdentityField("api:edit-detail", help_text="The URL of this edit here.")

    class Meta:
        model = Edit
        fields = [
            "id", "url", "connection", "run", "bulk_edit", "plan_result", "actor", "source", "reason", "status",
            "wait_reason", "waits_for", "waits_until", "next_attempt_at", "detail", "base", "patch", "before",
            "intended", "after", "conflicts", "upstream_request_id", "http_status", "request_id", "attempts", "undoes",
            "resolves", "created_at", "sent_at", "finished_at",
        ]  # fmt: skip
        read_only_fields = fields
        extra_kwargs = {
            "id": {"help_text": "The id of the edit."},
            "bulk_edit": {"help_text": "The bulk edit that it belongs to, or null."},
            "source": {"help_text": "Where it came in."},
            "reason": {"help_text": "Why, in the actor's words."},
            "status": {"help_text": "The status of the edit."},
            "wait_reason": {"help_text": "What a pending edit waits for. Empty: its turn."},
            "next_attempt_at": {"help_text": "When it is tried next, or null."},
            "detail": {"help_text": "The last thing that happened, in words."},
            "upstream_request_id": {"help_text": "The id that upstream gave the write."},
            "request_id": {"help_text": "The `X-Request-ID` of the request that made the edit."},
            "attempts": {"help_text": "How many attempts ended before the write was sent."},
            "undoes": {"help_text": "The edit that it undoes, or null."},
            "resolves": {"help_text": "The edit whose conflict it resolves, or null."},
            "created_at": {"help_text": "When it was recorded."},
            "sent_at": {"help_text": "When the last write started, or null."},
            "finished_at": {"help_text": "When it ended, or null."},
        }

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


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "A planned edit",
            EXAMPLE
            | {
                "bulk_edit": 7,
                "plan_result": "change",
                "status": "planned",
                "intended": None,
                "upstream_request_id": "",
                "http_status": None,
                "sent_at": None,
                "finished_at": None,
            },
            response_only=True,
        )
    ]
)
class PlannedEditSerializer(EditSerializer):
    """An edit of a bulk edit. Until it is sent, `before` and `after` are the planned ones."""

    before = serializers.SerializerMethodField(  # type: ignore[assignment]
        help_text="The metadata before the write; until it is sent, what the plan started from."
    )
    after = serializers.SerializerMethodField(  # type: ignore[assignment]
        help_text="The metadata that upstream returned; until then, what is planned. Null where nothing changes."
    )

    @extend_schema_field({"type": ["object", "null"], "additionalProperties": {}})
    def get_before(self, edit: Edit) -> dict[Any, Any] | None:
        return _as_dict(edit.base if edit.before is None else edit.before)

    @extend_schema_field({"type": ["object", "null"], "additionalProperties": {}})
    def get_after(self, edit: Edit) -> dict[Any, Any] | None:
        if edit.after is not None or edit.has_ended:
            return _as_dict(edit.after)
        return _as_dict(edit.patch.apply(edit.base or Metadata()) if edit.intended is None else edit.intended)


@extend_schema_serializer(
    examples=[OpenApiExample("Agreed", {"metadata": {"team": "search"}, "reason": "Agreed with bob"})]
)
class ResolveEditBody(StrictSerializer):
    metadata = MetadataPatchField(help_text="The change that you want, knowing what upstream has. Null removes a key.")
    reason = ReasonField()


@extend_schema_serializer(examples=[OpenApiExample("A reason", {"reason": "Set by mistake"})])
class UndoEditBody(StrictSerializer):
    reason = ReasonField()


def _as_dict(metadata: Metadata | None) -> dict[Any, Any] | None:
    return None if metadata is None else dict(metadata)
