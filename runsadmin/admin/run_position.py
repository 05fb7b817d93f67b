"""A run's place in the list that it was opened from: the way back to it, and the runs before and after.

Links in the list carry its query string as `from`, with the key of the page's first row instead of the page itself, so
that the page has the same rows even after new runs have arrived. `until` is the key of the page's last row.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.contrib.admin.views.main import ORDER_VAR, SEARCH_VAR
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict

from runsadmin import keyset, search
from runsadmin.admin.change_list import NEWER, OLDER
from runsadmin.admin.list_state import TZ
from runsadmin.errors import InvalidSearch
from runsadmin.models import Run
from runsadmin.services.run_search import RunSearch, Sort
from runsadmin.services.search_time_limit import limited
from runsadmin.templatetags import links

FROM, UNTIL = "from", "until"
MAX_LENGTH = 3000
_PAGE = re.compile(r"/(run|edit)/\d+/\w+/$")
# The search for the runs before and after delays the page of a run by at most this much.
SECONDS = 1.0


def link_suffix(parameters: Mapping[str, str], sort: Sort, rows: list[Run]) -> str:
    """The query string for links to the runs on a page of the list with these parameters.

    Empty if there are none, or if it would be too long for the links of a page and for servers.
    """
    if not rows:
        return ""
    first, last = (keyset.key_of(sort.order, row) for row in (rows[0], rows[-1]))
    query = {**parameters, OLDER: keyset.to_text(_before(first, sort))}
    suffix = "?" + urlencode({FROM: urlencode(query), UNTIL: keyset.to_text(last)})
    return suffix if len(suffix) <= MAX_LENGTH else ""


def suffix_of(request: HttpRequest) -> str:
    """The same query string, for links on the pages of a run and its edits. Empty if it was not opened from a list."""
    given = {name: request.GET[name] for name in (FROM, UNTIL) if request.GET.get(name)}
    return f"?{urlencode(given)}" if FROM in given else ""


def context(request: HttpRequest) -> dict[str, str]:
    """For pages that lead back to the run: `place_suffix` completes links to pages of the run and its edits."""
    return {"place_suffix": suffix_of(request)}


def keeping(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """A response that keeps the place in the list if it redirects to a page of a run or an edit."""
    if isinstance(response, HttpResponseRedirect) and _PAGE.search(response.url):
        response["Location"] = response.url + suffix_of(request)
    return response


@dataclass(frozen=True)
class Place:
    """What the page of a run shows about its place. `problem` says why the neighbors are not known."""

    back: str
    previous: Run | None = None
    next: Run | None = None
    has_left: bool = False
    problem: str = ""


def place_of(request: HttpRequest, run: Run) -> Place | None:
    """None if the page was not opened from a list."""
    if not (given := request.GET.get(FROM)):
        return None
    parameters = QueryDict(given)
    order = parameters.get(ORDER_VAR, "")
    sort = Sort(order) if order in Sort else Sort.NEWEST
    back = _back(parameters, sort, run, request.GET.get(UNTIL, ""))
    try:
        found = RunSearch.parse(parameters.get(SEARCH_VAR, ""), search.time_zone(parameters.get(TZ, "UTC")))
        with limited(SECONDS):
            return Place(
                back,
                previous=_neighbor(found, sort, before=keyset.key_of(sort.order, run)),
                next=_neighbor(found, sort, after=keyset.key_of(sort.order, run)),
                has_left=not found.matching_keys([run.pk]),
            )
    except (InvalidSearch, ValueError):  # The search takes too long, or the address was changed.
        return Place(back, problem="Links to the previous and next run are missing: the search failed or is slow.")


def _neighbor(found: RunSearch, sort: Sort, **side: Any) -> Run | None:
    runs = Run.objects.only("upstream_id", *sort.order[:1])
    rows = found.read_page(runs, 1, sort=sort, **side).rows
    return rows[0] if rows else None


def _back(parameters: QueryDict, sort: Sort, run: Run, until: str) -> str:
    """The URL of the list's page with the run, whose row gets the focus.

    This is the page that the user came from or, if the run is not on it, the page that begins with the run.
    """
    query, key = parameters.copy(), keyset.key_of(sort.order, run)
    try:
        begin, end = (keyset.from_text(text, sort.order) for text in (query.get(OLDER, ""), until))
        is_on_page = _rank(begin, sort) < _rank(key, sort) <= _rank(end, sort)
    except ValueError:
        is_on_page = False
    if not is_on_page:
        query.pop(NEWER, None)
        query[OLDER] = keyset.to_text(_before(key, sort))
    return f"{links.list_url(Run)}?{query.urlencode()}#run-{run.pk}"


def _before(key: keyset.Key, sort: Sort) -> keyset.Key:
    """A key just before this one in the list."""
    value, pk = key
    return value, pk - 1 if sort.is_ascending else pk + 1


def _rank(key: keyset.Key, sort: Sort) -> tuple[bool, Any, int]:
    """Sorts keys in the order of the list."""
    value, pk = key
    sign = 1 if sort.is_ascending else -1
    number = value.timestamp() if sort.column == "created_at" else value
    return value is None, 0 if value is None else sign * number, sign * pk
