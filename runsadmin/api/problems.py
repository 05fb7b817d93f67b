"""Errors as problem details (RFC 9457). docs/rest-api.md lists their types, which are stable."""

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
    INVALID_SEARCH = 400, "The search is not valid"
    INVALID_SELECTION = 400, "These runs cannot be edited together"
    UNKNOWN_CONNECTION = 400, "No such connection is configured"
    BAD_REQUEST = 400, "The request cannot be read"
    NOT_AUTHENTICATED = 401, "Not authenticated"
    NOT_ALLOWED = 403, "The account may not do this"
    NOT_FOUND = 404, "Not found"
    METHOD_NOT_ALLOWED = 405, "Method not allowed"
    NOT_ACCEPTABLE = 406, "Not acceptable"
    AMBIGUOUS_ID = 409, "Several connections have this id"
    EDIT_CONFLICT = 409, "Someone else changed the same keys"
    EDIT_CANCELLED = 409, "The edit was cancelled"
    ILLEGAL_CHANGE = 409, "The status does not permit this"
    KEY_IN_USE = 409, "The same request is in progress"
    RUN_GONE = 410, "Upstream no longer has this run"
    CHANGED_TAG = 412, "The ETag was changed in transit"
    STALE_VERSION = 412, "The run has changed"
    BODY_TOO_LARGE = 413, "The body is too large"
    UNSUPPORTED_MEDIA_TYPE = 415, "Unsupported media type"
    INVALID_ID = 422, "The id is not valid"
    KEY_REUSED = 422, "The Idempotency-Key was used with another body"
    EDIT_REJECTED = 422, "Upstream rejected the edit"
    UPSTREAM_FAULT = 424, "Upstream failed"
    EDIT_FAILED = 424, "The edit failed"
    TOO_MANY_REQUESTS = 429, "Too many requests"
    INTERNAL_ERROR = 500, "Internal error"
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


class ProblemError(Exception):
    """A request that ends in a problem. `members` are the members of this problem other than the standard ones."""

    def __init__(self, problem: ProblemType, detail: str, **members: Any) -> None:
        super().__init__(detail)
        self.problem = problem
        self.members = members


def details(problem: ProblemType, detail: str, **members: Any) -> dict[str, Any]:
    return {"type": problem.uri, "title": problem.title, "status": problem.status, "detail": detail, **members}


# The first match applies.
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

# Used where the message of the exception does not say what to do.
_DETAILS = {
    ProblemType.NOT_FOUND: "There is nothing at this URL. URLs end with a slash; GET /api/v1/schema/ lists them all.",
    ProblemType.NOT_ACCEPTABLE: "Responses are JSON. Send `Accept: application/json`, or no Accept header.",
    ProblemType.UNSUPPORTED_MEDIA_TYPE: "Send the body as `Content-Type: application/json`; a PATCH may also be "
    "`application/merge-patch+json`.",
    ProblemType.BODY_TOO_LARGE: "The body is too large. Send less at a time.",
}


def exception_handler(error: Exception, context: Mapping[str, Any]) -> Response | None:
    """None for an internal error: Django logs it and calls `server_error`."""
    set_rollback()
    if isinstance(error, ProblemError):
        return _response(details(error.problem, str(error), **error.members))
    for kind, problem in _TYPES:
        if isinstance(error, kind):
            detail = _DETAILS.get(problem) or _detail(error)
            return _response(details(problem, detail, **_members(error)), headers=_headers(error))
    return None


def _response(body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    return Response(body, status=body["status"], headers=headers, content_type=CONTENT_TYPE)


def _detail(error: Exception) -> str:
    if isinstance(error, exceptions.ValidationError):
        return " ".join(item["message"] for item in _errors(error))
    if isinstance(error, exceptions.NotAuthenticated):
        return "Send a token: `Authorization: Token …`. `manage.py create_token USER` creates one."
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
    if isinstance(error, errors.InvalidSelection) and error.not_selected:
        return {"not_selected": [{"id": id, "why": why} for id, why in error.not_selected]}
    if isinstance(error, exceptions.ValidationError):
        return {"errors": _errors(error)}
    return {}


def _errors(error: exceptions.ValidationError) -> list[dict[str, Any]]:
    return [
        {"field": ".".join(path) or None, "key": None, "code": str(leaf["code"]), "message": _sentence(path, leaf)}
        for path, leaf in _leaves(error.get_full_details())
    ]


def _leaves(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """The errors of a serializer, each with its path."""
    if isinstance(node, Mapping):
        if node.keys() == {"message", "code"}:
            yield path, node
            return
        pairs: Iterable[tuple[Any, Any]] = node.items()
    else:  # A list of errors of one field, or one entry for each item of a list.
        pairs = (("" if _is_leaf(item) else str(index), item) for index, item in enumerate(node))
    for name, child in pairs:
        yield from _leaves(child, path if name in ("", "non_field_errors") else (*path, str(name)))


def _is_leaf(node: Any) -> bool:
    return isinstance(node, Mapping) and node.keys() == {"message", "code"}


def _sentence(path: tuple[str, ...], leaf: Mapping[str, Any]) -> str:
    return f"{'.'.join(path)}: {leaf['message']}" if path else str(leaf["message"])


def _headers(error: Exception) -> dict[str, str]:
    if isinstance(error, exceptions.Throttled):
        return {"Retry-After": str(error.wait)}  # type: ignore[attr-defined] # The stubs lack it.
    challenge = getattr(error, "auth_header", None)  # The framework sets it for a 401.
    return {"WWW-Authenticate": challenge} if challenge else {}


# --- Django's error views, for what happens outside of the API's views


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    if db_errors.is_in_trouble(exception):  # Django reports a session that could not be saved as a bad request.
        return _database_unavailable(request)
    too_large = isinstance(exception, RequestDataTooBig)
    if not _is_api(request):
        return render(request, "413.html", status=413) if too_large else defaults.bad_request(request, exception)
    if too_large:
        return _plain(ProblemType.BODY_TOO_LARGE, _DETAILS[ProblemType.BODY_TOO_LARGE])
    return _plain(ProblemType.BAD_REQUEST, "The request could not be read: check its host and headers.")


def server_error(request: HttpRequest) -> HttpResponse:
    """Called while the exception is handled, so that sys.exception() is the cause."""
    if db_errors.is_in_trouble(sys.exception()):
        return _database_unavailable(request)
    if not _is_api(request):
        return defaults.server_error(request)
    return _plain(ProblemType.INTERNAL_ERROR, "This is an internal error, and it was logged. Try again later.")


def _database_unavailable(request: HttpRequest) -> HttpResponse:
    may_have_saved = request.method not in ("GET", "HEAD") and db_errors.may_have_saved()
    headers = {"Retry-After": "5", "Cache-Control": "no-store"}
    if _is_api(request):
        return _plain(ProblemType.DATABASE_UNAVAILABLE, _UNKNOWN if may_have_saved else _NOTHING_SAVED, headers)
    # Without the request: its context processors would query the database.
    context = {"may_have_saved": may_have_saved, "request_id": log_context.request_id()}
    return HttpResponse(render_to_string("503.html", context), status=503, headers=headers)


_NOTHING_SAVED = (
    "The database cannot be reached or written to. Nothing was saved. Send the request again in a few seconds."
)
_UNKNOWN = (
    "It is not known whether this was saved. Check before you send it again. With the same Idempotency-Key, "
    "an edit or a bulk edit can be sent again without checking."
)


def _is_api(request: HttpRequest) -> bool:
    return request.path_info.startswith("/api/")


def _plain(problem: ProblemType, detail: str, headers: Mapping[str, str] | None = None) -> HttpResponse:
    body = lenient_json.dumps(details(problem, detail))
    return HttpResponse(body, status=problem.status, headers=headers, content_type=CONTENT_TYPE)
