"""Problem details (RFC 9457). docs/rest-api.md lists their types, which are stable."""

from enum import Enum
from typing import Any

CONTENT_TYPE = "application/problem+json"


class ProblemType(Enum):
    """An HTTP status, a title, and a typical detail. The first type of each status is its example in the schema.

    The name determines the `type`: STALE_VERSION is urn:runsadmin:problem:stale-version.
    """

    INVALID_REQUEST = 400, "The request is not valid", "page_size: Ensure this value is less than or equal to 500."
    MALFORMED_BODY = 400, "The body cannot be read"
    INVALID_METADATA = 400, "The metadata is not valid"
    INVALID_SEARCH = 400, "The search is not valid"
    INVALID_SELECTION = 400, "The selection is not valid"
    INVALID_COLUMNS = 400, "The columns are not valid"
    FORMAT_UNAVAILABLE = 400, "The format is not installed"
    UNKNOWN_CONNECTION = 400, "No such connection is configured"
    BAD_REQUEST = 400, "The request cannot be read", "The request could not be read: check its host and headers."
    NOT_AUTHENTICATED = (
        401,
        "Not authenticated",
        "Send `Authorization: Token …`. `manage.py create_token` creates a token.",
    )
    NOT_ALLOWED = 403, "The account may not do this", "The account 'carol' may not edit metadata."
    NOT_FOUND = 404, "Not found", "There is nothing at this URL. URLs end with a slash; GET /api/v1/schema/ lists all."
    METHOD_NOT_ALLOWED = 405, "Method not allowed"
    NOT_ACCEPTABLE = 406, "Not acceptable", "Responses are JSON. Send `Accept: application/json`, or no Accept header."
    EDIT_CONFLICT = 409, "Someone else changed the same keys", "Someone else changed: team. See `conflicts`."
    AMBIGUOUS_ID = 409, "Several connections have this id"
    EDIT_CANCELLED = 409, "The edit was cancelled"
    ILLEGAL_CHANGE = 409, "The status does not permit this"
    READ_ONLY_CONNECTION = 409, "The connection is an archive"
    KEY_IN_USE = 409, "The same request is in progress"
    RUN_GONE = 410, "Upstream no longer has this run", "The mirror keeps its copy of this run."
    FILE_GONE = 410, "The file no longer exists"
    STALE_VERSION = 412, "The run has changed", "The run has changed since you read it, so nothing was sent."
    CHANGED_TAG = 412, "The ETag was changed in transit"
    BODY_TOO_LARGE = 413, "The body is too large", "The body is too large. Send less at a time."
    UNSUPPORTED_MEDIA_TYPE = 415, "Unsupported media type", "Send JSON: `Content-Type: application/json`."
    EDIT_REJECTED = 422, "Upstream rejected the edit", "Metadata is too large. Nothing was changed."
    INVALID_ID = 422, "The id is not valid"
    KEY_REUSED = 422, "The Idempotency-Key was used with another body"
    UPSTREAM_FAULT = 424, "Upstream failed", "Upstream returned 500: try again later."
    EDIT_FAILED = 424, "The edit failed"
    TOO_MANY_REQUESTS = 429, "Too many requests", "Request was throttled. Expected available in 2 seconds."
    TOO_MANY_EXPORTS = 429, "Too many exports at the same time"
    INTERNAL_ERROR = 500, "Internal error", "This is an internal error, and it was logged. Try again later."
    DATABASE_UNAVAILABLE = 503, "The database is not available", "Nothing was saved. Retry in a few seconds."

    def __init__(self, status: int, title: str, detail: str = "") -> None:
        self.status, self.title, self.detail = status, title, detail

    @property
    def uri(self) -> str:
        return f"urn:runsadmin:problem:{self.name.lower().replace('_', '-')}"


class ProblemError(Exception):
    """A request that ends in a problem. `members` are added to the standard members."""

    def __init__(self, problem: ProblemType, detail: str, **members: Any) -> None:
        super().__init__(detail)
        self.problem = problem
        self.members = members


def details(problem: ProblemType, detail: str, **members: Any) -> dict[str, Any]:
    return {"type": problem.uri, "title": problem.title, "status": problem.status, "detail": detail, **members}
