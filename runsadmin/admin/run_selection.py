"""Which runs a user selected in the list: the ticked ones, or all that match the list's filters.

"All that match" is never posted as keys: the list's query string defines it, and the selection is frozen when the
action runs.
"""

from dataclasses import replace
from typing import Any

from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet

from runsadmin import search
from runsadmin.admin.id_search import MAX_MATCHES, leaves_some_out
from runsadmin.errors import InvalidSelection
from runsadmin.models import Run
from runsadmin.services.bulk_edits import Selection, select_all

COUNT_CAP = 10_000
# Prefix of a description that is not a valid search.
IN_WORDS = "in words: "


def ticked(runs: QuerySet[Run], keys: list[int]) -> Selection:
    """Raises InvalidSelection or UnknownConnection."""
    selection = select_all(runs, query="")
    gone = sorted(set(keys).difference(selection.keys))
    return replace(selection, not_selected=[(f"the run with primary key {key}", "unknown") for key in gone])


def all_that_match(shown: ChangeList) -> Selection:
    """All runs of a list, on all of its pages. Raises InvalidSelection or UnknownConnection."""
    check_complete(shown)
    query = _query(shown)
    selection = select_all(shown.queryset, query=query)
    return selection if query else replace(selection, query=search.equal("connection", selection.connection))


def check_complete(shown: ChangeList) -> None:
    """Raises InvalidSelection if the list itself shows only some of the matching runs."""
    if shown.query and leaves_some_out(shown.query):
        raise InvalidSelection(
            f"More than {MAX_MATCHES} ids begin with {shown.query!r}, and the list shows only the first of them. Type"
            " more of the id, or use another filter."
        )


def count(shown: ChangeList) -> int:
    """The number of matching runs. Counting stops at one more than COUNT_CAP."""
    return int(shown.queryset.order_by()[: COUNT_CAP + 1].count())


def _query(shown: ChangeList) -> str:
    """The search that finds what the list shows, or a description that begins with IN_WORDS. Empty: all runs."""
    filters: list[Any] = [spec for spec in shown.filter_specs if spec.value()]  # type: ignore[attr-defined]
    search_words = [spec.search_word for spec in filters]
    if all(search_words) and not shown.query:
        return " ".join(search_words)
    words = [f"{spec.title} {spec.label}" for spec in filters]
    return IN_WORDS + ", ".join([f"id {shown.query}", *words] if shown.query else words)
