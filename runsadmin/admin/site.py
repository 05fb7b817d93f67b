"""What every page shows: the menu, and the banner of held connections."""

from typing import Any

from django.http import HttpRequest
from django.urls import reverse

from runsadmin import conf
from runsadmin.admin import view_menu
from runsadmin.admin.base import actor, may
from runsadmin.models import BulkEdit, ConnectionState, Edit, Export, Run, Sync, Task, Thread
from runsadmin.models.bulk_edit import MAX_REASON_LENGTH
from runsadmin.services import connections, edits
from runsadmin.services.permissions import Action
from runsadmin.templatetags import links


def context(request: HttpRequest) -> dict[str, Any]:
    """What every page for signed-in staff needs: the banner of held connections, and limits."""
    if not (request.user.is_authenticated and request.user.is_staff):
        return {}
    held = list(connections.held())
    return {
        "held_connections": held,
        "awaiting_release": {row.alias: edits.count_awaiting_release(row.alias) for row in held if row.restored_from},
        "max_awaiting_release": edits.MAX_AWAITING_RELEASE,
        "all_is_held": conf.hold(),
        "aliases": list(conf.upstreams()),
        "max_reason_length": MAX_REASON_LENGTH,
    }


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    items = [
        ("Dashboard", "space_dashboard", reverse("admin:index"), True),
        ("Runs", "play_circle", links.list_url(Run), may(request, Action.VIEW_RUNS)),
        ("Edits", "edit_note", links.list_url(Edit), may(request, Action.VIEW_EDITS)),
        ("Bulk edits", "dynamic_feed", links.list_url(BulkEdit), may(request, Action.VIEW_BULK_EDITS)),
        ("Exports", "download", links.list_url(Export), may(request, Action.VIEW_RUNS)),
        ("Threads", "forum", links.list_url(Thread), may(request, Action.VIEW_THREADS)),
        ("Syncs", "sync", links.list_url(Sync), may(request, Action.VIEW_SYNCS)),
        ("Connections", "cloud", links.list_url(ConnectionState), may(request, Action.VIEW_SYNCS)),
        ("Tasks", "pending_actions", links.list_url(Task), may(request, Action.VIEW_TASKS)),
    ]
    user = actor(request)
    accounts = [
        ("Users", "person", reverse("admin:auth_user_changelist"), user.has_perm("auth.view_user")),
        ("Groups", "group", reverse("admin:auth_group_changelist"), user.has_perm("auth.view_group")),
        (
            "API tokens",
            "key",
            reverse("admin:knox_authtoken_changelist"),
            user.has_perm("knox.view_authtoken") or user.has_perm("knox.add_authtoken"),
        ),
    ]
    groups: list[dict[str, Any]] = [
        {"items": _items(items)},
        view_menu.group(request),
        {"title": "Access", "separator": True, "items": _items(accounts)},
    ]
    return [group for group in groups if group["items"]]


def _items(items: list[tuple[str, str, str, bool]]) -> list[dict[str, Any]]:
    return [{"title": title, "icon": icon, "link": link} for title, icon, link, allowed in items if allowed]
