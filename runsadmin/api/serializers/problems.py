from typing import Any

from rest_framework import serializers

from runsadmin.api.serializers.bulk_edits import NotSelectedSerializer
from runsadmin.api.serializers.edits import ConflictSerializer, EditSerializer


class ErrorSerializer(serializers.Serializer[Any]):
    """One error in the request."""

    field = serializers.CharField(allow_null=True, help_text="The parameter, header or field of the body, or null.")
    key = serializers.CharField(allow_null=True, help_text="The key of the metadata, or null.")
    code = serializers.CharField(help_text="A stable code.")
    message = serializers.CharField(help_text="What is wrong and what is allowed.")


class ProblemSerializer(serializers.Serializer[Any]):
    """Problem details (RFC 9457)."""

    type = serializers.CharField(help_text="A stable name of the kind of problem. docs/rest-api.md lists all.")
    title = serializers.CharField(help_text="The kind of problem in words.")
    status = serializers.IntegerField(help_text="The HTTP status.")
    detail = serializers.CharField(help_text="What happened, and what to do.")
    errors = ErrorSerializer(  # type: ignore[assignment]
        many=True, required=False, help_text="The errors in the request."
    )
    conflicts = ConflictSerializer(many=True, required=False, help_text="The keys in conflict.")
    edit = EditSerializer(required=False, help_text="The edit that the request made or pushed.")
    not_selected = NotSelectedSerializer(many=True, required=False, help_text="Ids that select no run.")
