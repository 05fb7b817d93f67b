"""Saved views in the menu of every page."""

from typing import Any

from django.http import HttpRequest
from django.utils.html import escape
from django.utils.text import Truncator

from runsadmin.admin.base import actor, may
from runsadmin.models import Run, SavedView
from runsadmin.services import views
from runsadmin.services.permissions import Action
from runsadmin.templatetags import links

MAX_VIEWS = 12


def group(request: HttpRequest) -> dict[str, Any]:
    """The first views by name, and a link to all of them."""
    if not may(request, Action.VIEW_RUNS):
        return {"items": []}
    runs, current = links.list_url(Run), request.GET.get("view") if request.path == links.list_url(Run) else None
    items = [
        {
            "title": escape(Truncator(view.name).chars(26)),  # The theme does not escape titles.
            "icon": "group" if view.is_shared else "bookmark",
            "link": f"{runs}?view={view.slug}",
            "active": view.slug == current,
        }
        for view in views.visible_to(actor(request))[:MAX_VIEWS]
    ]
    if items:
        items.append({"title": "All views", "icon": "bookmarks", "link": links.list_url(SavedView)})
    return {"title": "Saved views", "separator": True, "items": items}
