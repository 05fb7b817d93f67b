"""Throttles sign-in to prevent password guessing: django-axes stores failures, this module counts them and responds.

Failures are counted per user name and address, so that nobody can lock out a user from another address. They are also
counted per address, with a much higher limit, to stop guessing with many user names. See docs/security.md.
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

# After this many failures with one user name from one address, sign-in is blocked for AXES_COOLOFF_TIME.
MAX_FAILURES = 5
# After this many failures from one address, with any user names, sign-in from it is blocked as well.
MAX_FAILURES_PER_ADDRESS = 50


@never_cache
def sign_in(request: HttpRequest) -> HttpResponse:
    """The admin's sign-in page. In response to an htmx request, the browser reloads the whole page instead."""
    if "HX-Request" in request.headers:
        return HttpResponse(status=204, headers={"HX-Refresh": "true"})
    return admin.site.login(request)


def client_address(request: HttpRequest) -> str | None:
    """The address that connected to the outermost of our proxies. None if it is not an IP address.

    An IPv6 client usually has a whole /64 network, so the address of the network is returned.
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


def failure_limit(request: HttpRequest, credentials: dict[str, Any] | None) -> int:
    return MAX_FAILURES


class FailedSignIns(AxesDatabaseHandler):  # type: ignore[misc] # The package has no types.
    """Counts failures in the database, and therefore across all processes."""

    def get_failures(self, request: HttpRequest, credentials: dict[str, Any] | None = None) -> int:
        """The number that axes compares with `failure_limit`."""
        return MAX_FAILURES if self.locked_until(request, credentials) else 0

    def locked_until(self, request: HttpRequest, credentials: dict[str, Any] | None) -> dt.datetime | None:
        """When the next attempt is allowed. None if it is allowed now."""
        ends = []
        # In the order of AXES_LOCKOUT_PARAMETERS: per user name and address, and per address.
        limits = (MAX_FAILURES, MAX_FAILURES_PER_ADDRESS)
        for attempts, limit in zip(self.get_user_attempts(request, credentials), limits, strict=True):
            failed = attempts.aggregate(count=Sum("failures_since_start"), last=Max("attempt_time"))
            if (failed["count"] or 0) >= limit:
                ends.append(failed["last"] + settings.AXES_COOLOFF_TIME)
        return max(ends, default=None)


def refuse(request: HttpRequest, response: HttpResponse, credentials: dict[str, Any] | None) -> HttpResponse:
    """The response while sign-in is blocked. It is the same whether or not the user name exists."""
    until = FailedSignIns().locked_until(request, credentials) or timezone.now()
    seconds = max(1, round((until - timezone.now()).total_seconds()))
    refusal = render(request, "429.html", {"minutes": -(-seconds // 60)}, status=429)
    refusal.headers["Retry-After"] = str(seconds)
    return refusal
