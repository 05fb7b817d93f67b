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
from runsadmin.services import connections, edits
from runsadmin.services.permissions import Action
from runsadmin.templatetags import links

# The value of the button that releases a connection after a restore. Any other hold stays.
RESTORED = "restored"


@admin.register(ConnectionState)
class ConnectionStateAdmin(ReadOnlyAdmin):
    view_action = Action.VIEW_SYNCS

    def get_urls(self) -> list[URLPattern]:
        return [self.row_url("switch", self.switch_view), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        require(request, self.view_action)
        shown = states()
        # Until every connection is released after a restore, the banner of every page links to these edits.
        is_released = not any(state.restored_from for connection, state in shown if not connection.is_archive)
        waiting = is_released and edits.that_await_release().exists()
        context = {"connections": shown, "fresh_list_items": FRESH_LIST_ITEMS, "edits_await_release": waiting}
        return self.render(request, "runsadmin/connections.html", "Connections", **context)

    def page(self, request: HttpRequest, state: ConnectionState) -> HttpResponse:
        return redirect(links.list_url(ConnectionState))

    def switch_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        if request.method == "POST":
            with reporting_errors(request):
                messages.success(request, f"The connection {object_id} {self._switch(request, object_id)}")
        return redirect(links.list_url(ConnectionState))

    def _switch(self, request: HttpRequest, alias: str) -> str:
        """Holds or releases the connection. Returns the end of the sentence that says so."""
        wanted = request.POST.get("on")
        if wanted == RESTORED:
            connections.release_restored(alias, actor=actor(request))
            if not edits.count_awaiting_release(alias):
                return "is released."
            return "is released. Edits from the backup wait until they are released or cancelled."
        on = wanted == "1"
        connections.set_hold(alias, on=on, actor=actor(request))
        return "is held: nothing is sent on it." if on else "is released."


def states() -> list[tuple[conf.Connection, ConnectionState]]:
    """Every configured connection with its state."""
    known = ConnectionState.objects.in_bulk()
    return [
        (connection, known.get(alias, ConnectionState(alias=alias))) for alias, connection in conf.connections().items()
    ]
