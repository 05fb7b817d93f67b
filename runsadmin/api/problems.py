"""What goes wrong, as problem details (RFC 9457): every error of the API has one shape and a `type` that stays.

The types are listed in docs/rest-api.md.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.http import Http404, HttpRequest, HttpResponse, UnreadablePostError
from django.shortcuts import render
from django.template.loader import render_to_string
from django.views import defaults
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import set_rollback

from runsadmin import db_errors, errors, lenient_json, log_context

CONTENT_TYPE = "application/problem+json"


class ProblemType(Enum):
    """An HTTP status and a title. The name gives the `type`: STALE_VERSION is urn:runsadmin:problem:stale-version."""

    MALFORMED_BODY = 400, "The body cannot be read"
    INVALID_REQUEST = 400, "The request is not valid"
    INVALID_METADATA = 400, "The metadata is not valid"
    INVALID_SEARCH = 400, "The search is not understood"
    INVALID_SELECTION = 400, "These runs cannot be edited together"
    UNKNOWN_CONNECTION = 400, "No such connection is configured"
    BAD_REQUEST = 400, "The request cannot be understood"
    NOT_AUTHENTICATED = 401, "Nobody is signed in"
    NOT_ALLOWED = 403, "The account may not do this"
    NOT_FOUND = 404, "There is nothing here"
    METHOD_NOT_ALLOWED = 405, "This method cannot be used here"
    NOT_ACCEPTABLE = 406, "No such representation"
    AMBIGUOUS_ID = 409, "Two connections have this id"
    EDIT_CONFLICT = 409, "Somebody else changed the same keys"
    EDIT_CANCELLED = 409, "The edit was taken back"
    ILLEGAL_CHANGE = 409, "This cannot be done now"
    KEY_IN_USE = 409, "The same request is under way"
    RUN_GONE = 410, "Upstream no longer has this run"
    CHANGED_TAG = 412, "The ETag was changed on the way"
    STALE_VERSION = 412, "The run was written since it was read"
    BODY_TOO_LARGE = 413, "The body is too large"
    UNSUPPORTED_MEDIA_TYPE = 415, "The body is of an unknown kind"
    INVALID_ID = 422, "This id cannot be sent to an upstream"
    KEY_REUSED = 422, "The Idempotency-Key was used before"
    EDIT_REJECTED = 422, "Upstream refuses the edit"
    UPSTREAM_FAULT = 424, "The upstream did not answer as it should"
    EDIT_FAILED = 424, "The edit could not be sent"
    TOO_MANY_REQUESTS = 429, "The account asks too often"
    INTERNAL_ERROR = 500, "Something went wrong here"
    DATABASE_UNAVAILABLE = 503, "The database is not available"

    @property
    def status(self) -> int:
        return self.value[0]

    @property
    def title(self) -> str:
        return self.value[1]

    @property
    def uri(self) -> str:
        return f"urn:runsadmin:problem:{self.name.lower().replace('_', '-')}"


class Refused(Exception):
    """A request that ends in a problem. `members` are what this problem tells beside the detail."""

    def __init__(self, problem: ProblemType, detail: str, **members: Any) -> None:
        super().__init__(detail)
        self.problem = problem
        self.members = members


def details(problem: ProblemType, detail: str, **members: Any) -> dict[str, Any]:
    return {"type": problem.uri, "title": problem.title, "status": problem.status, "detail": detail, **members}


# The first that fits counts.
_TYPES: tuple[tuple[type[Exception], ProblemType], ...] = (
    (errors.InvalidMetadata, ProblemType.INVALID_METADATA),
    (errors.InvalidSearch, ProblemType.INVALID_SEARCH),
    (errors.InvalidSelection, ProblemType.INVALID_SELECTION),
    (errors.InvalidId, ProblemType.INVALID_ID),
    (errors.NotAllowed, ProblemType.NOT_ALLOWED),
    (errors.UnknownConnection, ProblemType.UNKNOWN_CONNECTION),
    (errors.InvalidTransition, ProblemType.ILLEGAL_CHANGE),
    (errors.StaleVersion, ProblemType.STALE_VERSION),
    (errors.IdempotencyKeyReused, ProblemType.KEY_REUSED),
    (errors.IdempotencyKeyInUse, ProblemType.KEY_IN_USE),
    (errors.UpstreamError, ProblemType.UPSTREAM_FAULT),
    (exceptions.ValidationError, ProblemType.INVALID_REQUEST),
    (exceptions.ParseError, ProblemType.MALFORMED_BODY),
    (exceptions.AuthenticationFailed, ProblemType.NOT_AUTHENTICATED),
    (exceptions.NotAuthenticated, ProblemType.NOT_AUTHENTICATED),
    (exceptions.PermissionDenied, ProblemType.NOT_ALLOWED),
    (exceptions.NotFound, ProblemType.NOT_FOUND),
    (exceptions.MethodNotAllowed, ProblemType.METHOD_NOT_ALLOWED),
    (exceptions.NotAcceptable, ProblemType.NOT_ACCEPTABLE),
    (exceptions.Throttled, ProblemType.TOO_MANY_REQUESTS),
    (exceptions.UnsupportedMediaType, ProblemType.UNSUPPORTED_MEDIA_TYPE),
    (Http404, ProblemType.NOT_FOUND),
    (PermissionDenied, ProblemType.NOT_ALLOWED),
    (RequestDataTooBig, ProblemType.BODY_TOO_LARGE),
    (UnreadablePostError, ProblemType.MALFORMED_BODY),
)

# Said instead of the exception's own words, where those do not tell what to do.
_DETAILS = {
    ProblemType.NOT_FOUND: "There is nothing at this address. Addresses end with a slash; "
    "GET /api/v1/schema/ lists all of them.",
    ProblemType.NOT_ACCEPTABLE: "The answers are JSON: send `Accept: application/json`, or no Accept at all.",
    ProblemType.UNSUPPORTED_MEDIA_TYPE: "Send the body as `Content-Type: application/json`; a PATCH may also be "
    "`application/merge-patch+json`.",
    ProblemType.BODY_TOO_LARGE: "The body is larger than this API reads. Send less at a time.",
}


def exception_handler(error: Exception, context: Mapping[str, Any]) -> Response | None:
    """None for what is a fault of ours: it is logged, and answered by `server_error`."""
    set_rollback()
    if isinstance(error, Refused):
        return _response(details(error.problem, str(error), **error.members))
    for kind, problem in _TYPES:
        if isinstance(error, kind):
            detail = _DETAILS.get(problem) or _words(error)
            return _response(details(problem, detail, **_members(error)), headers=_headers(error))
    return None


def _response(body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    return Response(body, status=body["status"], headers=headers, content_type=CONTENT_TYPE)


def _words(error: Exception) -> str:
    if isinstance(error, exceptions.ValidationError):
        return " ".join(one["message"] for one in _errors(error))
    if isinstance(error, exceptions.NotAuthenticated):
        return "Send a token: `Authorization: Token …`. `manage.py create_token USER` makes one."
    if isinstance(error, exceptions.APIException):
        return str(error.detail)
    return str(error)


def _members(error: Exception) -> dict[str, Any]:
    if isinstance(error, errors.InvalidMetadata):
        return {
            "errors": [
                {"field": "metadata", "key": problem.key, "code": problem.code, "message": problem.message}
                for problem in error.problems
            ]
        }
    if isinstance(error, errors.InvalidSearch):
        return {"errors": [{"field": "q", "key": None, "code": "invalid_search", "message": str(error)}]}
    if isinstance(error, errors.InvalidSelection) and error.left_out:
        return {"not_selected": [{"id": id, "why": why} for id, why in error.left_out]}
    if isinstance(error, exceptions.ValidationError):
        return {"errors": _errors(error)}
    return {}


def _errors(error: exceptions.ValidationError) -> list[dict[str, Any]]:
    return [
        {"field": ".".join(path) or None, "key": None, "code": str(one["code"]), "message": _sentence(path, one)}
        for path, one in _flat(error.get_full_details())
    ]


def _flat(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """The leaves of what a serializer says, each with the way to it."""
    if isinstance(node, Mapping):
        if node.keys() == {"message", "code"}:
            yield path, node
            return
        pairs: Iterable[tuple[Any, Any]] = node.items()
    else:  # A list of what is wrong with one field, or one entry per item of a list.
        pairs = (("" if _is_leaf(item) else str(index), item) for index, item in enumerate(node))
    for name, child in pairs:
        yield from _flat(child, path if name in ("", "non_field_errors") else (*path, str(name)))


def _is_leaf(node: Any) -> bool:
    return isinstance(node, Mapping) and node.keys() == {"message", "code"}


def _sentence(path: tuple[str, ...], one: Mapping[str, Any]) -> str:
    return f"{'.'.join(path)}: {one['message']}" if path else str(one["message"])


def _headers(error: Exception) -> dict[str, str]:
    if isinstance(error, exceptions.Throttled):
        return {"Retry-After": str(error.wait)}  # type: ignore[attr-defined] # The stubs lack it.
    challenge = getattr(error, "auth_header", None)  # Set by the framework where there is somebody to ask.
    return {"WWW-Authenticate": challenge} if challenge else {}


# --- What Django answers itself, outside of any view of the API


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    if db_errors.is_in_trouble(exception):  # Django takes a session that could not be saved for one that was deleted.
        return _database_unavailable(request)
    too_large = isinstance(exception, RequestDataTooBig)
    if not _is_ours(request):
        return render(request, "413.html", status=413) if too_large else defaults.bad_request(request, exception)
    if too_large:
        return _plain(ProblemType.BODY_TOO_LARGE, _DETAILS[ProblemType.BODY_TOO_LARGE])
    return _plain(ProblemType.BAD_REQUEST, "The request could not be understood: its host or its headers are wrong.")


def server_error(request: HttpRequest) -> HttpResponse:
    """Called while the error is being handled, wherever it came from: middleware, a view or a template."""
    if db_errors.is_in_trouble(sys.exception()):
        return _database_unavailable(request)
    if not _is_ours(request):
        return defaults.server_error(request)
    return _plain(ProblemType.INTERNAL_ERROR, "This is a fault of this service. It was logged; try again later.")


def _database_unavailable(request: HttpRequest) -> HttpResponse:
    may_have_saved = request.method not in ("GET", "HEAD") and db_errors.may_have_saved()
    headers = {"Retry-After": "5", "Cache-Control": "no-store"}
    if _is_ours(request):
        return _plain(ProblemType.DATABASE_UNAVAILABLE, _UNKNOWN if may_have_saved else _NOTHING_SAVED, headers)
    # Without the request: a page that knows it asks the database who is signed in.
    told = {"may_have_saved": may_have_saved, "request_id": log_context.request_id()}
    return HttpResponse(render_to_string("503.html", told), status=503, headers=headers)


_NOTHING_SAVED = "It cannot be reached or written to just now. Nothing was saved: send it again in a few seconds."
_UNKNOWN = (
    "It is not known whether this was saved. Look before you send it again; with the same Idempotency-Key "
    "an edit or a bulk edit can be sent again without looking."
)


def _is_ours(request: HttpRequest) -> bool:
    return request.path_info.startswith("/api/")


def _plain(problem: ProblemType, detail: str, headers: Mapping[str, str] | None = None) -> HttpResponse:
    body = lenient_json.dumps(details(problem, detail))
    return HttpResponse(body, status=problem.status, headers=headers, content_type=CONTENT_TYPE)
