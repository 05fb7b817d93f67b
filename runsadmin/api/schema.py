"""What the OpenAPI document says beyond what views and serializers tell by themselves."""

from typing import Any

from drf_spectacular.contrib.knox_auth_token import KnoxTokenScheme
from drf_spectacular.extensions import OpenApiSerializerExtension
from drf_spectacular.openapi import AutoSchema as BaseAutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse

from runsadmin.api.problems import CONTENT_TYPE
from runsadmin.api.serializers import ProblemSerializer

# Every call may end in these; those with a body in these, too.
EVERYWHERE = (400, 401, 403, 406, 429, 503)
WITH_BODY = (413, 415)

WORDS = {
    400: "The request is not valid: `errors` tells what is wrong.",
    401: "Nobody is signed in, or the token does not work.",
    403: "The account may not do this.",
    404: "There is nothing here.",
    406: "The answers are JSON only.",
    409: "It cannot be done as things are: `type` tells why.",
    410: "Upstream no longer has it.",
    412: "The run was written since it was read, or the ETag was changed on the way.",
    413: "The body is too large.",
    415: "The body is of an unknown kind.",
    422: "It is refused for good.",
    424: "The upstream did not answer as it should.",
    429: "The account asked too often: `Retry-After` says how many seconds to wait.",
    503: "The database is not available: `detail` tells whether anything may have been saved.",
}

IF_NONE_MATCH = OpenApiParameter("If-None-Match", str, OpenApiParameter.HEADER, description="An `ETag` that you have.")
IF_MATCH = OpenApiParameter(
    "If-Match",
    str,
    OpenApiParameter.HEADER,
    description="The `ETag` of what you saw: 412 when the run was written since. What you saw is then the base.",
)
IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "pattern": "^[ -~]{1,200}$"},
    OpenApiParameter.HEADER,
    description="Makes it safe to send the same request again: it is recorded once. Kept for a day.",
)
ETAG = OpenApiParameter(
    "ETag", str, OpenApiParameter.HEADER, description="Of this version of the run.", required=True, response=[200]
)
LOCATION = OpenApiParameter(
    "Location", OpenApiTypes.URI, OpenApiParameter.HEADER, description="Where to ask.", required=True,
    response=[201, 202],
)  # fmt: skip
RETRY_AFTER = OpenApiParameter(
    "Retry-After", int, OpenApiParameter.HEADER, description="Seconds to wait.", required=True, response=[429, 503]
)
NOT_MODIFIED = OpenApiResponse(description="It is the version that you have.")


def problems(*statuses: int) -> dict[Any, Any]:
    return {(status, CONTENT_TYPE): OpenApiResponse(ProblemSerializer, WORDS[status]) for status in statuses}


class AutoSchema(BaseAutoSchema):
    """Takes the parameters from the view's `queries`, and adds the problems that every call may end in."""

    def get_override_parameters(self) -> list[Any]:
        query = getattr(self.view, "queries", {}).get(self.method)
        return [RETRY_AFTER] if query is None else [RETRY_AFTER, query]

    def get_tags(self) -> list[str]:
        return [self.path.removeprefix("/api/v1/").split("/")[0]]

    def _get_response_bodies(self, direction: Any = "response") -> Any:
        responses = super()._get_response_bodies(direction)
        common = (*EVERYWHERE, *(WITH_BODY if self.method in ("POST", "PATCH") else ()))
        for (status, media_type), response in problems(*common).items():
            told = self._get_response_for_code(response, str(status), [media_type], direction)  # type: ignore[no-untyped-call]
            responses.setdefault(str(status), told)
        return dict(sorted(responses.items()))


class TokenScheme(KnoxTokenScheme):  # type: ignore[no-untyped-call]
    target_class = "runsadmin.api.access.TokenAuthentication"
    name = "token"


class StrictBody(OpenApiSerializerExtension):  # type: ignore[no-untyped-call]
    """Bodies that refuse unknown fields say so."""

    target_class = "runsadmin.api.serializers.Strict"
    match_subclasses = True

    def map_serializer(self, auto_schema: Any, direction: Any) -> Any:
        return auto_schema._map_serializer(self.target, direction, bypass_extensions=True) | {
            "additionalProperties": False
        }
