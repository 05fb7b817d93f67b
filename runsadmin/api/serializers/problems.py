from rest_framework.serializers import CharField, IntegerField

from runsadmin.api.serializers.bulk_edits import NotSelectedSerializer
from runsadmin.api.serializers.documented import DocumentedSerializer
from runsadmin.api.serializers.edits import ConflictSerializer, EditSerializer


class ErrorSerializer(DocumentedSerializer):
    """One error in the request."""

    docs = {
        "field": ("The parameter, header or body field with the error, or null.", "page_size"),
        "key": ("The metadata key with the error, or null.", None, CharField(allow_null=True)),
        "code": ("The kind of error, as a stable code.", "max_value", CharField()),
        "position": (
            "Which character of the search has the error, counted from 1. Null if it concerns the whole search.",
            None,
            IntegerField(allow_null=True, required=False),
        ),
        "message": ("What is wrong and what is allowed.", "page_size: Ensure this value is less than or equal to 500."),
    }

    field = CharField(allow_null=True)
    message = CharField()


class ProblemSerializer(DocumentedSerializer):
    """Problem details (RFC 9457)."""

    docs = {
        "type": (
            "The kind of problem, as a stable name. docs/rest-api.md lists all names.",
            "urn:runsadmin:problem:invalid-request",
            CharField(),
        ),
        "title": ("The kind of problem, for people.", "The request is not valid", CharField()),
        "status": ("The HTTP status.", 400, IntegerField()),
        "detail": ("What happened, and what to do.", ErrorSerializer.docs["message"][1], CharField()),
        "errors": (
            "The errors in the request.",
            [ErrorSerializer.example()],
            ErrorSerializer(many=True, required=False),
        ),
        "conflicts": ("The keys in conflict.", [], ConflictSerializer(many=True, required=False)),
        "edit": ("The edit that the request made or pushed.", None, EditSerializer(required=False)),
        "not_selected": ("Ids that select no run.", [], NotSelectedSerializer(many=True, required=False)),
    }
