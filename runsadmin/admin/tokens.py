"""Tokens for the REST API: created, shown once, and revoked here. Users see their own; superusers see all."""

import datetime as dt
from typing import Any

from django.apps import apps
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from runsadmin.admin.base import ThemedAdmin, actor
from runsadmin.models.token_details import MAX_NAME_LENGTH
from runsadmin.services import tokens
from runsadmin.templatetags import links

# Looked up by name, since only the service may import knox.
AuthToken = apps.get_model("knox", "AuthToken")
LIFETIMES = (7, 30, 90, 365)
MAX_SHOWN = 500


@admin.register(AuthToken)
class TokenAdmin(ThemedAdmin):
    actions = None

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        queryset = tokens.newest_first()
        return queryset if actor(request).is_superuser else queryset.filter(user=actor(request))

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if not self.has_view_permission(request) and not self.has_add_permission(request):
            raise PermissionDenied
        return self._render(request)

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Creates a token and shows it in the response, which must not be cached."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        if request.method != "POST":
            return redirect(links.list_url(AuthToken))
        user, days = actor(request), request.POST.get("days", "")
        if user.is_superuser and (username := request.POST.get("username", "").strip()):
            found = User.objects.filter(username=username, is_active=True).first()
            if found is None:
                messages.error(request, f"There is no active account {username!r}.")
                return redirect(links.list_url(AuthToken))
            user = found
        name = " ".join(request.POST.get("name", "").split())
        if not 0 < len(name) <= MAX_NAME_LENGTH:
            messages.error(request, f"Enter what the token is for, in at most {MAX_NAME_LENGTH} characters.")
            return redirect(links.list_url(AuthToken))
        if days not in map(str, LIFETIMES):
            messages.error(request, "Choose when the token expires.")
            return redirect(links.list_url(AuthToken))
        token = tokens.create(user=user, expires_in=dt.timedelta(days=int(days)), name=name)
        return self._render(request, token=token)

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        token = self.get_queryset(request).filter(pk=object_id).first()
        if token is None or not self.has_delete_permission(request, token):
            raise PermissionDenied
        if request.method != "POST":
            return self._render(request, revoking=token)
        tokens.revoke(token)
        messages.success(request, "Token revoked.")
        return redirect(links.list_url(AuthToken))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return redirect(links.list_url(AuthToken))

    def _render(self, request: HttpRequest, *, token: str = "", revoking: Any = None) -> HttpResponse:
        now = timezone.now()
        rows = [(row, row.expiry is not None and row.expiry <= now) for row in self.get_queryset(request)[:MAX_SHOWN]]
        response = self.render(
            request, "runsadmin/tokens.html", "API tokens", opts=None, rows=rows, token=token, revoking=revoking,
            lifetimes=LIFETIMES, max_name_length=MAX_NAME_LENGTH,
        )  # fmt: skip
        response.headers["Cache-Control"] = "no-store"
        return response
