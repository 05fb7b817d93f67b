"""What the OpenAPI document contains beyond what views and serializers declare."""

from collections.abc import Mapping
from typing import Any

from drf_spectacular.contrib.knox_auth_token import KnoxTokenScheme
from drf_spectacular.extensions import OpenApiSerializerExtension, OpenApiSerializerFieldExtension
from drf_spectacular.openapi import AutoSchema as BaseAutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse

from runsadmin.api.problems import CONTENT_TYPE, ProblemType, details
from runsadmin.api.serializers.edits import EXAMPLE as EDIT_EXAMPLE
from runsadmin.api.serializers.problems import ProblemSerializer

# Any request may return these; one with a body, WITH_BODY as well.
EVERYWHERE = (400, 401, 403, 406, 429, 503)
WITH_BODY = (413, 415)

# By status: a description, and the example.
PROBLEMS: Mapping[int, tuple[str, ProblemType, str]] = {
    400: (
        "The request is not valid. `errors` says where.",
        ProblemType.INVALID_REQUEST,
        "page_size: Ensure this value is less than or equal to 500.",
    ),
    401: (
        "There is no token, or it does not work.",
        ProblemType.NOT_AUTHENTICATED,
        "Send a token: `Authorization: Token …`. `manage.py create_token USER` creates one.",
    ),
    403: (
        "The account lacks a permission.",
        ProblemType.NOT_ALLOWED,
        "The account 'carol' may not edit metadata: it needs the permission 'runsadmin.change_run'.",
    ),
    404: ("Not found.", ProblemType.NOT_FOUND, "The mirror has no run with this id."),
    406: (
        "Responses are JSON only.",
        ProblemType.NOT_ACCEPTABLE,
        "Responses are JSON. Send `Accept: application/json`, or no Accept header.",
    ),
    409: (
        "The current state does not permit it. `type` says why.",
        ProblemType.EDIT_CONFLICT,
        "Someone else changed: team. See `conflicts`. POST the metadata that you want to the edit's resolve/.",
    ),
    410: ("Upstream no longer has the run.", ProblemType.RUN_GONE, "The mirror keeps its copy of this run."),
    412: (
        "The run has changed, or the ETag was changed in transit.",
        ProblemType.STALE_VERSION,
        "The run has changed since you read it, so nothing was sent. Read it again and send its new ETag.",
    ),
    413: ("The body is too large.", ProblemType.BODY_TOO_LARGE, "The body is too large. Send less at a time."),
    415: (
        "The body has an unsupported media type.",
        ProblemType.UNSUPPORTED_MEDIA_TYPE,
        "Send the body as `Content-Type: application/json`.",
    ),
    422: (
        "It cannot be done, now or later.",
        ProblemType.EDIT_REJECTED,
        "Metadata is too large. Nothing was changed. Correct the request and send it again.",
    ),
    424: ("Upstream failed.", ProblemType.UPSTREAM_FAULT, "Upstream returned 500: try again later."),
    429: (
        "The account sends too many requests. `Retry-After` has the seconds to wait.",
        ProblemType.TOO_MANY_REQUESTS,
        "Request was throttled. Expected available in 2 seconds.",
    ),
    503: (
        "The database is not available. `detail` says whether anything may have been saved.",
        ProblemType.DATABASE_UNAVAILABLE,
        "The database cannot be reached or written to. Nothing was saved. Send the request again in a few seconds.",
    ),
}
PROBLEM_MEMBERS: Mapping[int, Mapping[str, Any]] = {
    400: {
        "errors": [
            {
                "field": "page_size",
                "key": None,
                "code": "max_value",
                "message": "page_size: Ensure this value is less than or equal to 500.",
            }
        ]
    },
    409: {
        "conflicts": [{"key": "team", "base": "ads", "theirs": "sales", "ours": "search"}],
        "edit": EDIT_EXAMPLE
        | {
            "status": "conflict",
            "before": {"team": "sales"},
            "intended": None,
            "after": None,
            "sent_at": None,
            "conflicts": [{"key": "team", "base": "ads", "theirs": "sales", "ours": "search"}],
        },
    },
}

IF_NONE_MATCH = OpenApiParameter(
    "If-None-Match", str, OpenApiParameter.HEADER, description="An `ETag` that you have. 304 if it is current."
)
IF_MATCH = OpenApiParameter(
    "If-Match",
    str,
    OpenApiParameter.HEADER,
    description="The `ETag` of the version that you saw. 412 if the run has changed. That version is the base.",
)
IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "pattern": "^[ -~]{1,200}$"},
    OpenApiParameter.HEADER,
    description="Makes it safe to repeat a request: it is recorded once. Keys are kept for a day.",
)
ETAG = OpenApiParameter(
    "ETag", str, OpenApiParameter.HEADER, description="The version of the run.", required=True, response=[200]
)
LOCATION = OpenApiParameter(
    "Location", OpenApiTypes.URI, OpenApiParameter.HEADER, description="The URL of the result.", required=True,
    response=[201, 202],
)  # fmt: skip
RETRY_AFTER = OpenApiParameter(
    "Retry-After", int, OpenApiParameter.HEADER, description="Seconds to wait.", required=True, response=[429, 503]
)
NOT_MODIFIED = OpenApiResponse(description="You have the current version.")


def problems(*statuses: int) -> dict[Any, Any]:
    return {(status, CONTENT_TYPE): _problem(status) for status in statuses}


def _problem(status: int) -> OpenApiResponse:
    description, problem_type, detail = PROBLEMS[status]
    example = details(problem_type, detail, **PROBLEM_MEMBERS.get(status, {}))
    return OpenApiResponse(ProblemSerializer, description, [OpenApiExample(problem_type.title, example)])


class AutoSchema(BaseAutoSchema):
    """Adds the query parameters of the action, a summary, and the problems that any request may return."""

    def get_override_parameters(self) -> list[Any]:
        view: Any = self.view
        query = view.query_serializers.get(getattr(view, "action", ""))
        return [RETRY_AFTER] if query is None else [RETRY_AFTER, query]

    def get_tags(self) -> list[str]:
        return [self.path.removeprefix("/api/v1/").split("/")[0]]

    def get_summary(self) -> str:
        """The first sentence of the description."""
        return str(self.get_description()).partition("\n")[0].partition(". ")[0].removesuffix(".")

    def _resolve_path_parameters(self, variables: Any) -> Any:
        view: Any = self.view
        parameters = super()._resolve_path_parameters(variables)  # type: ignore[no-untyped-call]
        for parameter in parameters:
            name = parameter["name"]
            parameter["description"] = f"The id of the {name.removesuffix('_id')}, as upstream gave it."
            if name == "id":
                parameter["description"] = f"The id of the {view.queryset.model._meta.verbose_name}."
        return parameters

    def _get_response_bodies(self, direction: Any = "response") -> Any:
        responses = super()._get_response_bodies(direction)
        common = (
            *EVERYWHERE,
            *(WITH_BODY if self.method in ("POST", "PATCH") else ()),
            *((404,) if "{" in self.path else ()),
        )
        for (status, media_type), response in problems(*common).items():
            described = self._get_response_for_code(response, str(status), [media_type], direction)  # type: ignore[no-untyped-call]
            responses.setdefault(str(status), described)
        for status, response in responses.items():
            response["description"] = response["description"] or SUCCESSES[status]
        return dict(sorted(responses.items()))


SUCCESSES = {
    "200": "The result.",
    "201": "Created. `Location`, where present, is its URL.",
    "202": "Accepted: it continues in the background. `Location` is its URL.",
    "204": "Done. There is no body.",
}


class TokenScheme(KnoxTokenScheme):  # type: ignore[no-untyped-call]
    target_class = "runsadmin.api.authentication.TokenAuthentication"
    name = "token"


class StrictSerializerExtension(OpenApiSerializerExtension):  # type: ignore[no-untyped-call]
    """Bodies reject unknown fields."""

    target_class = "runsadmin.api.serializers.strict.StrictSerializer"
    match_subclasses = True

    def map_serializer(self, auto_schema: Any, direction: Any) -> Any:
        return auto_schema._map_serializer(self.target, direction, bypass_extensions=True) | {
            "additionalProperties": False
        }


class UpstreamFieldExtension(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    target_class = "runsadmin.api.fields.UpstreamField"

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> Any:
        return dict(self.target.schema)
