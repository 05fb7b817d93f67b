"""Which runs a user selected in the list: the ticked ones, or all that match the list's filters.

"All that match" is never posted as keys: the list's query string defines it, and the selection is frozen when the
action runs.
"""

from dataclasses import replace
from typing import Any

from django.db.models import QuerySet

from runsadmin import search
from runsadmin.admin.change_list import KeysetChangeList
from runsadmin.models import Run
from runsadmin.services.bulk_edits import Selection, select_all

COUNT_CAP = 10_000


def ticked(runs: QuerySet[Run], keys: list[int]) -> Selection:
    """Raises InvalidSelection or UnknownConnection."""
    selection = select_all(runs, query="")
    gone = sorted(set(keys).difference(selection.keys))
    return replace(selection, not_selected=[(f"the run with primary key {key}", "unknown") for key in gone])


def all_that_match(shown: KeysetChangeList) -> Selection:
    """All runs of a list, on all of its pages. Raises InvalidSearch, InvalidSelection, UnknownConnection."""
    shown.check_search()
    node = _search(shown)
    selection = select_all(shown.queryset, query=str(node or ""))
    return selection if node else replace(selection, query=str(search.equal("connection", selection.connection)))


def count(shown: KeysetChangeList) -> int:
    """The number of matching runs. Counting stops at one more than COUNT_CAP. Raises InvalidSearch."""
    shown.check_search()
    return int(shown.queryset.order_by()[: COUNT_CAP + 1].count())


def _search(shown: KeysetChangeList) -> search.Node | None:
    """The search that finds what the list shows. None: all runs."""
    filters: list[Any] = [spec for spec in shown.filter_specs if spec.value()]
    nodes = [search.parse(shown.query), *(spec.search_term for spec in filters)]
    used = [node for node in nodes if node is not None]
    return search.all_of(used) if used else None
