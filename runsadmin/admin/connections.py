"""Connections: what is configured, what is held and why, and the setting that stops all sending."""

from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern

from runsadmin import conf
from runsadmin.admin.base import ReadOnlyAdmin, actor, reporting_errors, require
from runsadmin.models import ConnectionState
from runsadmin.models.connection_state import FRESH_LIST_ITEMS
from runsadmin.services import connections
from runsadmin.services.permissions import Action
from runsadmin.templatetags import links


@admin.register(ConnectionState)
class ConnectionStateAdmin(ReadOnlyAdmin):
    view_action = Action.VIEW_SYNCS

    def get_urls(self) -> list[URLPattern]:
        return [self.row_url("switch", self.switch_view), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        require(request, self.view_action)
        context = {"connections": states(), "fresh_list_items": FRESH_LIST_ITEMS}
        return self.render(request, "runsadmin/connections.html", "Connections", **context)

    def page(self, request: HttpRequest, state: ConnectionState) -> HttpResponse:
        return redirect(links.list_url(ConnectionState))

    def switch_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        if request.method == "POST":
            on = request.POST.get("on") == "1"
            with reporting_errors(request):
                connections.set_hold(object_id, on=on, actor=actor(request))
                outcome = "is held: nothing is sent on it." if on else "is released: sending continues."
                messages.success(request, f"The connection {object_id} {outcome}")
        return redirect(links.list_url(ConnectionState))


def states() -> list[tuple[conf.Connection, ConnectionState]]:
    """Every configured connection with its state."""
    known = ConnectionState.objects.in_bulk()
    return [
        (connection, known.get(alias, ConnectionState(alias=alias))) for alias, connection in conf.connections().items()
    ]
