"""Throttles sign-in against password guessing: django-axes counts failures, this decides how it counts and responds.

Counted are user name and address together, so that nobody can lock somebody else out from another address; and, far
more generously, the address alone, against one that tries many names. docs/security.md tells it to people.
"""

import datetime as dt
from ipaddress import ip_address, ip_network
from typing import Any

from axes.handlers.database import AxesDatabaseHandler
from django.conf import settings
from django.contrib import admin
from django.db.models import Max, Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache

# How many times AXES_FAILURE_LIMIT one address may fail with whatever names.
ALL_NAMES = 10


@never_cache
def page(request: HttpRequest) -> HttpResponse:
    """The sign-in page, which is the admin's. Pages that update themselves (htmx) are reloaded instead."""
    if "HX-Request" in request.headers:
        return HttpResponse(status=204, headers={"HX-Refresh": "true"})
    return admin.site.login(request)


def client_address(request: HttpRequest) -> str | None:
    """The address that the outermost of our own proxies was asked from; None where that is no IP address.

    Who has an IPv6 address has a network of them: the network counts.
    """
    forwarded = [hop.strip() for hop in request.META.get("HTTP_X_FORWARDED_FOR", "").split(",") if hop.strip()]
    hops = [*forwarded, request.META.get("REMOTE_ADDR", "")]
    try:
        address = ip_address(hops[-1 - min(settings.PROXIES, len(forwarded))])
    except ValueError:
        return None
    if address.version == 4:
        return str(address)
    return str(address.ipv4_mapped or ip_network((address, 64), strict=False).network_address)


class FailedSignIns(AxesDatabaseHandler):  # type: ignore[misc] # It has no types.
    """Kept in the database, and so counted over all processes."""

    def get_failures(self, request: HttpRequest, credentials: dict[str, Any] | None = None) -> int:
        """What is compared with AXES_FAILURE_LIMIT."""
        return settings.AXES_FAILURE_LIMIT if self.locked_until(request, credentials) else 0

    def locked_until(self, request: HttpRequest, credentials: dict[str, Any] | None) -> dt.datetime | None:
        """When the next attempt is allowed; None when it is allowed now."""
        ends = []
        # As in AXES_LOCKOUT_PARAMETERS: by name and address, and by address.
        for attempts, times in zip(self.get_user_attempts(request, credentials), (1, ALL_NAMES), strict=True):
            failed = attempts.aggregate(count=Sum("failures_since_start"), last=Max("attempt_time"))
            if (failed["count"] or 0) >= times * settings.AXES_FAILURE_LIMIT:
                ends.append(failed["last"] + settings.AXES_COOLOFF_TIME)
        return max(ends, default=None)


def refuse(request: HttpRequest, response: HttpResponse, credentials: dict[str, Any] | None) -> HttpResponse:
    """The response while attempts are blocked: the same for names that exist and for others."""
    until = FailedSignIns().locked_until(request, credentials) or timezone.now()
    seconds = max(1, round((until - timezone.now()).total_seconds()))
    refusal = render(request, "429.html", {"minutes": -(-seconds // 60)}, status=429)
    refusal.headers["Retry-After"] = str(seconds)
    return refusal
