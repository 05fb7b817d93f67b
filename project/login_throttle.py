"""Throttles sign-in to prevent password guessing: django-axes stores failures, this module counts them and responds.

An attempt counts as a failure before its password is checked, and a successful one is then forgotten: otherwise
parallel attempts would all be checked before the first of them is counted.

Failures are counted per user name and address, so that nobody can lock out a user from another address. They are also
counted per address, with a much higher limit, to stop guessing with many user names. See docs/security.md.
"""

import datetime as dt
import logging
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Any

from axes.handlers.database import AxesDatabaseHandler
from axes.helpers import get_client_username
from axes.models import AccessAttempt
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import F, Max, Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache

logger = logging.getLogger(__name__)

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


class FailedSignIns(AxesDatabaseHandler):  # type: ignore[misc] # The package has no types.
    """Counts failures in the database, and therefore across all processes."""

    def is_allowed(self, request: HttpRequest, credentials: dict[str, Any] | None = None) -> bool:
        """Whether the password may be checked. If it may, this counts the attempt as a failure."""
        if self.locked_until(request, credentials):
            return False
        self._count(request, credentials)
        return all(count <= limit for count, limit, _ in self._failures(request, credentials))

    def user_login_failed(
        self, sender: Any, credentials: dict[str, Any], request: HttpRequest | None = None, **kwargs: Any
    ) -> None:
        """Called after the check, or when it was not allowed. `is_allowed` has already counted the failure."""
        if request is None:
            return
        request.axes_credentials = credentials  # type: ignore[attr-defined] # For `refuse`.
        if not request.axes_locked_out:  # type: ignore[attr-defined]
            logger.warning("Failed sign-in from %s", client_address(request))
            if self.locked_until(request, credentials):
                logger.warning("Locking out %s", client_address(request))
                request.axes_locked_out = True  # type: ignore[attr-defined]

    def user_logged_in(self, sender: Any, request: HttpRequest, user: User, **kwargs: Any) -> None:
        """Forgets the failures with this user name from this address."""
        AccessAttempt.objects.filter(username=user.get_username(), ip_address=client_address(request)).delete()

    def locked_until(self, request: HttpRequest, credentials: dict[str, Any] | None) -> dt.datetime | None:
        """When the next attempt is allowed. None if it is allowed now."""
        ends = [last for count, limit, last in self._failures(request, credentials) if count >= limit]
        return max(ends) + settings.AXES_COOLOFF_TIME if ends else None

    def _failures(
        self, request: HttpRequest, credentials: dict[str, Any] | None
    ) -> Iterator[tuple[int, int, dt.datetime]]:
        """The number of failures, the limit, and when the last one was: per user name and address, and per address."""
        # In the order of AXES_LOCKOUT_PARAMETERS.
        limits = (MAX_FAILURES, MAX_FAILURES_PER_ADDRESS)
        for attempts, limit in zip(self.get_user_attempts(request, credentials), limits, strict=True):
            failed = attempts.aggregate(count=Sum("failures_since_start"), last=Max("attempt_time"))
            yield failed["count"] or 0, limit, failed["last"]

    def _count(self, request: HttpRequest, credentials: dict[str, Any] | None) -> None:
        self.clean_expired_user_attempts(request, credentials)
        attempt, _ = AccessAttempt.objects.get_or_create(
            username=get_client_username(request, credentials),
            ip_address=client_address(request),
            user_agent="",
            defaults={"failures_since_start": 0},
        )
        AccessAttempt.objects.filter(pk=attempt.pk).update(
            failures_since_start=F("failures_since_start") + 1, attempt_time=timezone.now()
        )


def refuse(request: HttpRequest, response: HttpResponse, credentials: dict[str, Any] | None) -> HttpResponse:
    """The response while sign-in is blocked. It is the same whether or not the user name exists."""
    until = FailedSignIns().locked_until(request, credentials) or timezone.now()
    seconds = max(1, round((until - timezone.now()).total_seconds()))
    refusal = render(request, "429.html", {"minutes": -(-seconds // 60)}, status=429)
    refusal.headers["Retry-After"] = str(seconds)
    return refusal
