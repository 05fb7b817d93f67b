"""Django's error views, for errors outside of the API's views: problem details for the API's URLs, pages for others."""

import sys
from collections.abc import Mapping

from django.core.exceptions import RequestDataTooBig
from django.db import Error as DatabaseError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.views import defaults

from runsadmin import db_errors, lenient_json, log_context
from runsadmin.api.problems import CONTENT_TYPE, ProblemType, details


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    # Django reports a session that could not be saved as a bad request.
    if failure := db_errors.failure_behind(exception):
        return _database_unavailable(request, failure)
    too_large = isinstance(exception, RequestDataTooBig)
    if not _is_api(request):
        return render(request, "413.html", status=413) if too_large else defaults.bad_request(request, exception)
    return _problem(ProblemType.BODY_TOO_LARGE if too_large else ProblemType.BAD_REQUEST)


def server_error(request: HttpRequest) -> HttpResponse:
    """Called while the exception is being handled, so that sys.exception() returns it."""
    if failure := db_errors.failure_behind(sys.exception()):
        return _database_unavailable(request, failure)
    if not _is_api(request):
        return defaults.server_error(request)
    return _problem(ProblemType.INTERNAL_ERROR)


def _database_unavailable(request: HttpRequest, failure: DatabaseError) -> HttpResponse:
    is_damaged = db_errors.is_damaged(failure)
    may_have_saved = request.method not in ("GET", "HEAD") and db_errors.may_have_saved()
    headers = {"Retry-After": "5", "Cache-Control": "no-store"}
    if _is_api(request):
        saved = _UNKNOWN if may_have_saved else "Nothing was saved." if is_damaged else ""
        detail = f"{_DAMAGED} {saved}" if is_damaged else saved
        return _problem(ProblemType.DATABASE_UNAVAILABLE, detail, headers)
    # Rendered without the request: with it, context processors would query the database.
    context = {"may_have_saved": may_have_saved, "is_damaged": is_damaged, "request_id": log_context.request_id()}
    return HttpResponse(render_to_string("503.html", context), status=503, headers=headers)


_DAMAGED = "The database file is damaged: an administrator has to restore a backup."
_UNKNOWN = (
    "It is not known whether this was saved. Check before you send it again. An edit or a bulk edit that had an "
    "Idempotency-Key can be sent again with the same key without checking."
)


def _is_api(request: HttpRequest) -> bool:
    return request.path_info.startswith("/api/")


def _problem(problem: ProblemType, detail: str = "", headers: Mapping[str, str] | None = None) -> HttpResponse:
    body = lenient_json.dumps(details(problem, detail or problem.detail))
    return HttpResponse(body, status=problem.status, headers=headers, content_type=CONTENT_TYPE)
