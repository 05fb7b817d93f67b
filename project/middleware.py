"""Middleware for every request and response."""

import logging
import re
import time
import uuid
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.exceptions import BadRequest, RequestDataTooBig
from django.http import FileResponse, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.http.response import HttpResponseBase
from django.middleware.gzip import GZipMiddleware

from project.body_limits import max_body_size
from runsadmin import db_errors, health, log_context

logger = logging.getLogger(__name__)

type GetResponse = Callable[[HttpRequest], HttpResponseBase]

_VALID_ID = re.compile(r"[A-Za-z0-9._:/=+-]{1,128}")


class RequestIDMiddleware:
    """Gives each request an id, the caller's own if it is valid. Log lines, edits and the response include it."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        started = time.perf_counter()
        given = request.headers.get("X-Request-ID", "")
        request_id = given if _VALID_ID.fullmatch(given) else uuid.uuid4().hex
        log_context.begin_request(request_id)
        response = self.get_response(request)
        response.headers["X-Request-ID"] = request_id
        if request.resolver_match:  # Static files and probes are not logged.
            status, took = response.status_code, round((time.perf_counter() - started) * 1000)
            logger.info("%s %s", request.method, request.path, extra={"status_code": status, "took_ms": took})
        return response

    def process_view(self, request: HttpRequest, *args: Any) -> None:
        # Without a session cookie nobody is signed in, and reading the session would add Cookie to the Vary header.
        if settings.SESSION_COOKIE_NAME in request.COOKIES and request.user.is_authenticated:
            log_context.set_user(request.user.get_username())


class ProbesMiddleware:
    """Serves /livez and /readyz. Must precede SecurityMiddleware, since probes use plain HTTP and any host name."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path_info not in ("/livez", "/readyz"):
            return self.get_response(request)
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD"])
        missing = health.missing_part() if request.path_info == "/readyz" else ""
        return HttpResponse(
            f"{missing or 'ok'}\n",
            status=503 if missing else 200,
            content_type="text/plain",
            headers={"Cache-Control": "no-store"},
        )


class DatabaseWatchMiddleware:
    """Observes database statements, so that the response to a failure can say whether anything was saved."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        with db_errors.watching():
            return self.get_response(request)


class NumberRangeMiddleware:
    """Responds with a 400 to a number that is too large for its column: Django's forms and lists do not check it."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> None:
        if db_errors.is_out_of_range(exception):
            raise BadRequest("A number is too large.") from exception


class BoundedBodyMiddleware:
    """Rejects a body by its Content-Length, before any of it is read. Django's own limit does not cover files."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        length = request.META.get("CONTENT_LENGTH") or "0"
        if not length.isdecimal() or int(length) > max_body_size(request.path_info):
            raise RequestDataTooBig("The body is larger than allowed.")
        return self.get_response(request)


class CompressionMiddleware(GZipMiddleware):
    """Compresses neither files nor responses with an ETag: it would become weak, and a weak ETag never matches.

    To prevent BREACH attacks, Django pads every compressed response to a random length and masks its CSRF tokens.
    """

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> Any:
        # The web server sends files by itself, but compressing one would occupy a thread until the client has read it.
        if response.has_header("ETag") or isinstance(response, FileResponse):
            return response
        return super().process_response(request, response)
