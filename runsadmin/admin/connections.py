"""Connections: what is configured, what is held and why, and the switch that stops all sending."""

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path

from runsadmin import conf
from runsadmin.admin.base import ReadOnlyAdmin, actor, may, reporting_errors
from runsadmin.models import ConnectionState
from runsadmin.models.connection_state import FRESH_LIST_ITEMS
from runsadmin.services import connections
from runsadmin.services.permissions import Action
from runsadmin.templatetags import links


@admin.register(ConnectionState)
class ConnectionStateAdmin(ReadOnlyAdmin):
    view_action = Action.VIEW_SYNCS

    def get_urls(self) -> list[URLPattern]:
        switch = path("<str:alias>/switch/", self.view(self.switch_view), name=self.url_name("switch"))
        return [switch, *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        return self.render(
            request, "runsadmin/connections.html", "Connections",
            connections=states(), may_hold=may(request, Action.HOLD), fresh_list_items=FRESH_LIST_ITEMS,
        )  # fmt: skip

    def page(self, request: HttpRequest, state: ConnectionState) -> HttpResponse:
        return redirect(links.list_url(ConnectionState))

    def switch_view(self, request: HttpRequest, alias: str) -> HttpResponse:
        if request.method == "POST":
            on = request.POST.get("on") == "1"
            with reporting_errors(request):
                connections.set_hold(alias, on=on, actor=actor(request))
                outcome = "is held: nothing is sent on it." if on else "is released: sending continues."
                messages.success(request, f"The connection {alias} {outcome}")
        return redirect(links.list_url(ConnectionState))


def states() -> list[tuple[conf.Connection, ConnectionState]]:
    """Every configured connection with its state."""
    known = ConnectionState.objects.in_bulk()
    return [
        (connection, known.get(alias, ConnectionState(alias=alias))) for alias, connection in conf.connections().items()
    ]
