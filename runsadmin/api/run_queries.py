"""The search in a query or a body: its own text, that of a saved view, and plain filters."""

from collections.abc import Container
from typing import Any

from django.contrib.auth.models import User
from rest_framework.exceptions import ValidationError

from runsadmin.errors import InvalidColumns, UnknownView
from runsadmin.models import ExportFormat
from runsadmin.search import time_zone
from runsadmin.services import run_columns, views
from runsadmin.services.run_search import RunSearch, Sort


def search_of(query: dict[str, Any], given: Container[str], user: User) -> RunSearch:
    """The search of a list or an export. Adds to `query` what a view says, unless it was `given` by the client.

    Raises InvalidSearch or ValidationError.
    """
    if "view" in query:
        of_view = _of_view(
            query["view"], user, with_columns=query.get("format") in (ExportFormat.CSV, ExportFormat.PARQUET)
        )
        query |= {name: value for name, value in of_view.items() if name not in given}
    return RunSearch.parse(query.get("q", ""), query["tz"]).narrowed(query.get("terms", ()))


def _of_view(slug: str, user: User, *, with_columns: bool) -> dict[str, Any]:
    try:
        view = views.resolve(slug, user)
        said = {"q": view.query, "sort": Sort(view.sort), "tz": time_zone(view.tz)}
        if with_columns and view.columns:
            said["columns"] = run_columns.parse(view.columns)
    except (UnknownView, InvalidColumns, ValueError) as error:  # A newer version may lack a stored order or time zone.
        raise ValidationError({"view": str(error)}, code="invalid") from None
    return said
