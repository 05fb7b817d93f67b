"""Which runs a user selected in the list: the ticked ones, or all that match the list's filters.

"All that match" is never posted as keys: the list's query string defines it, and the selection is frozen when the
action runs.
"""

from collections.abc import Iterable
from dataclasses import replace

from django.db.models import QuerySet

from runsadmin import search
from runsadmin.admin.run_change_list import RunChangeList
from runsadmin.models import Run
from runsadmin.services.bulk_edits import Selection, select_all
from runsadmin.services.run_search import RunSearch
from runsadmin.services.search_time_limit import limited

COUNT_CAP = 10_000


def ticked(runs: QuerySet[Run], keys: list[int]) -> Selection:
    """Raises InvalidSelection or UnknownConnection."""
    selection = select_all(runs, query="")
    gone = sorted(set(keys).difference(selection.keys))
    return replace(selection, not_selected=[(f"the run with primary key {key}", "unknown") for key in gone])


def all_that_match(shown: RunChangeList) -> Selection:
    """All runs of a list, on all of its pages. Raises InvalidSearch, InvalidSelection, UnknownConnection."""
    shown.check_search()
    node = shown.search.node
    with limited(may_read_tables=True):
        selection = select_all(shown.search.matching(), query="")
    query = str(node or search.equal("connection", selection.connection))
    return replace(selection, query=query, tz=shown.search.tz)


def no_longer_matching(search: RunSearch, keys: Iterable[int]) -> tuple[list[tuple[int, str]], list[int]]:
    """The ticked runs that the search does not find: those that exist, with their ids, and the keys of the others."""
    others = set(keys) - search.matching_keys(keys)
    left = list(Run.objects.filter(pk__in=others).order_by("-created_at", "-pk").values_list("pk", "upstream_id"))
    return left, sorted(others - {pk for pk, _ in left})


def search_of(shown: RunChangeList) -> RunSearch:
    """The search of a list, which finds the runs on all of its pages. Raises InvalidSearch."""
    shown.check_search()
    return shown.search


def count(shown: RunChangeList) -> int:
    """The number of matching runs. Counting stops at one more than COUNT_CAP. Raises InvalidSearch."""
    shown.check_search()
    return shown.search.count(COUNT_CAP)
