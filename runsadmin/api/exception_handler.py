"""Turns the exceptions of the API's views into problem details."""

from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.http import Http404, UnreadablePostError
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import set_rollback

from runsadmin import errors
from runsadmin.api.problems import CONTENT_TYPE, ProblemError, ProblemType, details

# The first match applies.
_TYPES: tuple[tuple[type[Exception] | UnionType, ProblemType], ...] = (
    (errors.InvalidMetadata, ProblemType.INVALID_METADATA),
    (errors.InvalidSearch, ProblemType.INVALID_SEARCH),
    (errors.InvalidSelection, ProblemType.INVALID_SELECTION),
    (errors.InvalidColumns, ProblemType.INVALID_COLUMNS),
    (errors.FormatUnavailable, ProblemType.FORMAT_UNAVAILABLE),
    (errors.TooManyExports, ProblemType.TOO_MANY_EXPORTS),
    (errors.FileMissing, ProblemType.FILE_GONE),
    (errors.InvalidId, ProblemType.INVALID_ID),
    (errors.NotAllowed, ProblemType.NOT_ALLOWED),
    (errors.UnknownConnection, ProblemType.UNKNOWN_CONNECTION),
    (errors.ReadOnlyConnection, ProblemType.READ_ONLY_CONNECTION),
    (errors.UnknownView, ProblemType.NOT_FOUND),
    (errors.InvalidTransition, ProblemType.ILLEGAL_CHANGE),
    (errors.StaleVersion, ProblemType.STALE_VERSION),
    (errors.IdempotencyKeyReused, ProblemType.KEY_REUSED),
    (errors.IdempotencyKeyInUse, ProblemType.KEY_IN_USE),
    (errors.UpstreamError, ProblemType.UPSTREAM_FAULT),
    (exceptions.ValidationError, ProblemType.INVALID_REQUEST),
    (exceptions.ParseError | UnreadablePostError, ProblemType.MALFORMED_BODY),
    (exceptions.AuthenticationFailed | exceptions.NotAuthenticated, ProblemType.NOT_AUTHENTICATED),
    (exceptions.PermissionDenied | PermissionDenied, ProblemType.NOT_ALLOWED),
    (exceptions.NotFound | Http404, ProblemType.NOT_FOUND),
    (exceptions.MethodNotAllowed, ProblemType.METHOD_NOT_ALLOWED),
    (exceptions.NotAcceptable, ProblemType.NOT_ACCEPTABLE),
    (exceptions.Throttled, ProblemType.TOO_MANY_REQUESTS),
    (exceptions.UnsupportedMediaType, ProblemType.UNSUPPORTED_MEDIA_TYPE),
    (RequestDataTooBig, ProblemType.BODY_TOO_LARGE),
)


# The messages of these exceptions do not say what to do.
_VAGUE = (
    exceptions.NotAuthenticated, exceptions.NotFound, Http404, exceptions.NotAcceptable,
    exceptions.UnsupportedMediaType, RequestDataTooBig,
)  # fmt: skip


def exception_handler(error: Exception, context: Mapping[str, Any]) -> Response | None:
    """None for an internal error: Django logs it and calls `error_views.server_error`."""
    set_rollback()
    if isinstance(error, ProblemError):
        return _response(details(error.problem, str(error), **error.members))
    for kind, problem in _TYPES:
        if isinstance(error, kind):
            members = _members(error)
            return _response(details(problem, _detail(error, problem), **members), _headers(error))
    return None


def _response(body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    return Response(body, status=body["status"], headers=headers, content_type=CONTENT_TYPE)


def _detail(error: Exception, problem: ProblemType) -> str:
    if isinstance(error, exceptions.ValidationError):
        return " ".join(item["message"] for item in _errors(error))
    return problem.detail if isinstance(error, _VAGUE) else str(error)


def _members(error: Exception) -> dict[str, Any]:
    match error:
        case errors.InvalidMetadata():
            return {"errors": [vars(each) | {"field": "metadata"} for each in error.errors]}
        case errors.InvalidSearch():
            place = {"position": error.position, "message": str(error)}
            return {"errors": [{"field": "q", "key": None, "code": "invalid_search", **place}]}
        case errors.InvalidSelection() if error.not_selected:
            return {"not_selected": [{"id": id, "why": why} for id, why in error.not_selected]}
        case exceptions.ValidationError():
            return {"errors": list(_errors(error))}
    return {}


def _errors(error: exceptions.ValidationError) -> Iterator[dict[str, Any]]:
    for path, message, code in _leaves(error.get_full_details()):
        field = ".".join(path)
        yield {
            "field": field or None,
            "key": None,
            "code": str(code),
            "message": f"{field}: {message}" if field else str(message),
        }


def _leaves(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """The path, message and code of each error."""
    match node:
        case {"message": str(message), "code": str(code)}:
            yield path, message, code
        case dict():
            for name, child in node.items():
                yield from _leaves(child, path if name == "non_field_errors" else (*path, str(name)))
        case _:
            for child in node:
                yield from _leaves(child, path)


def _headers(error: Exception) -> dict[str, str]:
    if isinstance(error, exceptions.Throttled):
        return {"Retry-After": str(error.wait)}  # type: ignore[attr-defined] # The stubs lack it.
    if isinstance(error, errors.TooManyExports):
        return {"Retry-After": "30"}
    challenge = getattr(error, "auth_header", None)  # REST framework sets this header for a 401.
    return {"WWW-Authenticate": challenge} if challenge else {}
