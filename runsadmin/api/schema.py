"""What the OpenAPI document contains beyond what views and serializers declare."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from drf_spectacular.contrib.knox_auth_token import KnoxTokenScheme
from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from drf_spectacular.openapi import AutoSchema as BaseAutoSchema
from drf_spectacular.plumbing import force_instance
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, PolymorphicProxySerializer
from rest_framework.serializers import Serializer

from runsadmin.api.fields import StringField
from runsadmin.api.problems import CONTENT_TYPE, ProblemType, details
from runsadmin.api.serializers.documented import DocumentedSerializer
from runsadmin.api.serializers.edits import ConflictSerializer, EditSerializer
from runsadmin.api.serializers.problems import ErrorSerializer, ProblemSerializer
from runsadmin.api.serializers.strict import StrictSerializer

# Statuses that any request may return, and those that a request with a body may also return.
EVERYWHERE = (400, 401, 403, 406, 429, 503)
WITH_BODY = (413, 415)

_CONFLICTS = [ConflictSerializer.example()]
_CONFLICT = {"status": "conflict", "before": {"team": "sales"}, "intended": None, "after": None, "sent_at": None}
# Additional members of the problems in examples.
MEMBERS: Mapping[ProblemType, Mapping[str, Any]] = {
    ProblemType.INVALID_REQUEST: {"errors": [ErrorSerializer.example()]},
    ProblemType.EDIT_CONFLICT: {
        "conflicts": _CONFLICTS,
        "edit": EditSerializer.example() | _CONFLICT | {"conflicts": _CONFLICTS},
    },
}


def _header(name: str, description: str, schema: Any = str, **options: Any) -> OpenApiParameter:
    return OpenApiParameter(name, schema, OpenApiParameter.HEADER, description=description, **options)


IF_NONE_MATCH = _header("If-None-Match", "The `ETag` of the version that you have. 304 if it is current.")
IF_MATCH = _header("If-Match", "The `ETag` of the version that you saw, as the base. 412 if the run has changed.")
IDEMPOTENCY_KEY = _header(
    "Idempotency-Key",
    "Makes it safe to send a request again: it is recorded only once. Keys are kept for a day.",
    {"type": "string", "pattern": "^[ -~]{1,200}$"},
)
ETAG = _header("ETag", "The version of the run.", required=True, response=[200])
LOCATION = _header("Location", "The URL of the result.", OpenApiTypes.URI, response=[201, 202])
LINK = _header("Link", "The URLs of the next and the previous page (RFC 8288), as `next` and `prev`.", response=[200])
RETRY_AFTER = _header("Retry-After", "How many seconds to wait.", int, required=True, response=[429, 503])
NOT_MODIFIED = OpenApiResponse(description="You have the current version.")


def responses(serializer: type[Serializer[Any]], *statuses: int) -> dict[Any, Any]:
    """This serializer for the successes among `statuses`, problems for the others."""
    successes = {status: serializer for status in statuses if status < 400}
    return successes | problems(*(status for status in statuses if status >= 400))


def problems(*statuses: int) -> dict[Any, Any]:
    return {(status, CONTENT_TYPE): _problem(status) for status in statuses}


def _problem(status: int) -> OpenApiResponse:
    types = [known for known in ProblemType if known.status == status]
    example = details(types[0], types[0].detail, **MEMBERS.get(types[0], {}))
    titles = "; ".join(known.title for known in types)
    return OpenApiResponse(ProblemSerializer, f"{titles}.", [OpenApiExample(types[0].title, example)])


class AutoSchema(BaseAutoSchema):
    """Adds what the base classes of views and serializers declare, and the problems that any request may return."""

    view: Any

    def get_operation_id(self) -> str:
        resource = self.view.basename.replace("-", "_")
        return f"list_{resource}s" if self._action == "list" else f"{self._action}_{resource}"

    def get_description(self) -> str:  # type: ignore[override]
        match self._action:
            case "list":
                return f"List {self._meta.verbose_name_plural}, newest first."
            case "retrieve":
                return f"Retrieve one {self._meta.verbose_name}."
            case _:
                return str(super().get_description())

    def get_summary(self) -> str:
        """The first sentence of the description."""
        return str(self.get_description()).partition("\n")[0].partition(". ")[0].removesuffix(".")

    def get_override_parameters(self) -> list[Any]:
        query = self.view.query_serializers.get(self._action)
        links = [LINK] if self._is_list_view() else []
        return [RETRY_AFTER, LOCATION, *links, *([] if query is None else [query])]

    def get_request_serializer(self) -> Any:
        body = self.view.body_serializers.get(self._action)
        return _alternatives(body) if body is not None and body.one_of else body

    def _get_request_for_media_type(self, serializer: Any, direction: Any = "request") -> Any:
        schema, is_required = super()._get_request_for_media_type(serializer, direction)  # type: ignore[no-untyped-call]
        return schema, is_required or isinstance(serializer, PolymorphicProxySerializer)

    @property
    def _action(self) -> str:
        return getattr(self.view, "action", "")

    @property
    def _meta(self) -> Any:
        return self.view.queryset.model._meta

    def _resolve_path_parameters(self, variables: Any) -> Any:
        parameters = super()._resolve_path_parameters(variables)  # type: ignore[no-untyped-call]
        return [parameter | {"description": f"The id of the {self._meta.verbose_name}."} for parameter in parameters]

    def _map_serializer(self, serializer: Any, direction: Any, bypass_extensions: bool = False) -> Any:
        mapped = super()._map_serializer(serializer, direction, bypass_extensions)  # type: ignore[no-untyped-call]
        rejects_unknown = isinstance(force_instance(serializer), StrictSerializer)  # type: ignore[no-untyped-call]
        return mapped | {"additionalProperties": False} if rejects_unknown else mapped

    def _map_serializer_field(self, field: Any, direction: Any, bypass_extensions: bool = False) -> Any:
        mapped = super()._map_serializer_field(field, direction, bypass_extensions)  # type: ignore[no-untyped-call]
        if not isinstance(field, StringField) or field.allow_blank:
            return mapped
        return mapped | {"minLength": 1} | ({"pattern": r"\S"} if field.trim_whitespace else {})

    def _get_examples(
        self, serializer: Any, direction: Any, media_type: Any, status_code: Any = None, extras: Any = None
    ) -> Any:
        one = getattr(serializer, "child", serializer)  # A list shows one example of its items.
        examples = {"Example": one.example()} if isinstance(one, DocumentedSerializer) else getattr(one, "examples", {})
        named = [OpenApiExample(name, value) for name, value in examples.items()]
        return super()._get_examples(serializer, direction, media_type, status_code, extras or named)  # type: ignore[no-untyped-call]

    def _get_response_bodies(self, direction: Any = "response") -> Any:
        bodies = super()._get_response_bodies(direction)
        with_body = WITH_BODY if self.method in ("POST", "PATCH") else ()
        with_id = (404,) if "{" in self.path else ()
        for (status, media_type), response in problems(*EVERYWHERE, *with_body, *with_id).items():
            described = self._get_response_for_code(response, str(status), [media_type], direction)  # type: ignore[no-untyped-call]
            bodies.setdefault(str(status), described)
        for status, body in bodies.items():
            body["description"] = body["description"] or HTTPStatus(int(status)).phrase
        return dict(sorted(bodies.items()))


def _alternatives(body: type[StrictSerializer]) -> PolymorphicProxySerializer:
    """The variants of a body, one for each field in `one_of`, of which exactly one is required."""
    fields: dict[str, Any] = body().get_fields()
    serializers = []
    for name, title in body.one_of.items():
        field = type(fields[name])(**fields[name]._kwargs | {"required": True})
        own = dict.fromkeys(body.one_of) | {name: field, "one_of": {}}
        serializers.append(type(f"{title}Serializer", (body,), own))
    proxy: Any = PolymorphicProxySerializer(body.__name__, serializers, resource_type_field_name=None)
    proxy.examples = body.examples
    return proxy  # type: ignore[no-any-return]


class TokenScheme(KnoxTokenScheme):  # type: ignore[no-untyped-call]
    target_class = "runsadmin.api.authentication.TokenAuthentication"
    name = "token"


class DescribedFieldExtension(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    target_class = "runsadmin.api.fields.DescribedField"
    match_subclasses = True

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> Any:
        return dict(self.target.schema)
