"""What happens to every request before a view sees it, and to every answer after."""

import logging
import re
import time
import uuid
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.http.response import HttpResponseBase
from django.middleware.gzip import GZipMiddleware

from project import bodies
from runsadmin import db_errors, health, log_context

logger = logging.getLogger(__name__)

type GetResponse = Callable[[HttpRequest], HttpResponseBase]

_SANE_ID = re.compile(r"[A-Za-z0-9._:/=+-]{1,128}")


class TracingMiddleware:
    """Gives each request an id: the caller's own where it is a sane one. Log lines, edits and the answer carry it."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        began = time.perf_counter()
        given = request.headers.get("X-Request-ID", "")
        request_id = given if _SANE_ID.fullmatch(given) else uuid.uuid4().hex
        log_context.begin_request(request_id)
        response = self.get_response(request)
        response.headers["X-Request-ID"] = request_id
        if request.resolver_match:  # Neither static files nor probes.
            status, took = response.status_code, round((time.perf_counter() - began) * 1000)
            logger.info("%s %s", request.method, request.path, extra={"status_code": status, "took_ms": took})
        return response

    def process_view(self, request: HttpRequest, *args: Any) -> None:
        # Without the cookie nobody is signed in, and looking at the session would make the answer vary by it.
        if settings.SESSION_COOKIE_NAME in request.COOKIES and request.user.is_authenticated:
            log_context.is_by(request.user.get_username())


class ProbesMiddleware:
    """/livez and /readyz. Ahead of the rest: probes come over plain HTTP, and ask for whatever host they like."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path_info not in ("/livez", "/readyz"):
            return self.get_response(request)
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD"])
        lacking = health.lacking() if request.path_info == "/readyz" else ""
        return HttpResponse(
            f"{lacking or 'ok'}\n",
            status=503 if lacking else 200,
            content_type="text/plain",
            headers={"Cache-Control": "no-store"},
        )


class WatchingMiddleware:
    """Lets the answer say whether anything may have been saved, should the database be in trouble."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        with db_errors.watching():
            return self.get_response(request)


class BoundedBodyMiddleware:
    """Refuses a body by its announced length, before anything of it is read: Django's own bound leaves out files."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        length = request.META.get("CONTENT_LENGTH") or "0"
        if not length.isdecimal() or int(length) > bodies.largest(request.path_info):
            raise RequestDataTooBig("The body is larger than what is read here.")
        return self.get_response(request)


class CompressionMiddleware(GZipMiddleware):
    """Compresses what has no ETag: compressing makes a strong tag weak, and a weak tag never satisfies If-Match.

    Against BREACH, Django pads every compressed answer by a random length, and masks its CSRF token anew each time.
    """

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> Any:
        return response if response.has_header("ETag") else super().process_response(request, response)
