"""What the address of the list of runs says: its columns, order, time zone and saved view.

The whole state is in the address, so that a copied link opens the same list for everyone. An address that only names a
view is replaced with the complete one. Any other address stays as it is, even if its view changes. The time zone is
also remembered for the session.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPMethod
from urllib.parse import urlencode

from django.contrib.admin.views.main import ORDER_VAR, SEARCH_VAR
from django.http import HttpRequest

from runsadmin import search
from runsadmin.admin.base import actor
from runsadmin.errors import InvalidColumns, InvalidSearch, UnknownView
from runsadmin.models import SavedView
from runsadmin.services import run_columns, views
from runsadmin.services.run_columns import Column
from runsadmin.services.run_search import Sort
from runsadmin.services.views import ListState

COLUMNS, TZ, VIEW = "columns", "tz", "view"
_SESSION_KEY = "run_list_tz"


def of(request: HttpRequest) -> "ListAddress":
    """Read once per request."""
    shown: ListAddress | None = getattr(request, "shown_list", None)
    if shown is None:
        shown = ListAddress(request)
        request.shown_list = shown  # type: ignore[attr-defined]
    return shown


def query_of(view: SavedView) -> str:
    """The complete query string of a view's list. It always has the time zone, so that it never only names the view."""
    state = ListState.of(view)
    values = {
        SEARCH_VAR: state.query, ORDER_VAR: "" if state.sort == Sort.NEWEST else state.sort, COLUMNS: state.columns,
    }  # fmt: skip
    given = {name: value for name, value in values.items() if value}
    return urlencode(({VIEW: view.slug} if view.slug else {}) | given | {TZ: state.tz})


def complete_query(request: HttpRequest) -> str | None:
    """The complete query string, if this one only names a view, or is empty and the user has a default view."""
    if not request.GET and request.method == HTTPMethod.GET:
        default = views.default_of(actor(request))
        return query_of(default) if default else None
    if request.GET.keys() == {VIEW} and (view := of(request).view):
        return query_of(view)
    return None


@dataclass
class ListAddress:
    """The parts of an address. A part that is wrong has its default, except for the time zone."""

    request: HttpRequest
    _found: list[str] = field(default_factory=list)

    @cached_property
    def problems(self) -> list[str]:
        """What is wrong with the address."""
        _ = self.view, self.columns, self.sort
        try:
            _ = self.tz
        except InvalidSearch as error:
            self._found.append(str(error))
        return self._found

    @cached_property
    def parameters(self) -> Mapping[str, str]:
        return self.request.GET

    @cached_property
    def view(self) -> SavedView | None:
        if not (slug := self.parameters.get(VIEW)):
            return None
        try:
            return views.resolve(slug, actor(self.request))
        except UnknownView as error:
            self._found.append(f"{error} The list is shown without the view.")
            return None

    @cached_property
    def columns(self) -> list[Column]:
        try:
            return run_columns.parse(text) if (text := self.parameters.get(COLUMNS, "")) else list(run_columns.DEFAULT)
        except InvalidColumns as error:
            self._found.append(str(error))
            return list(run_columns.DEFAULT)

    @property
    def columns_text(self) -> str:
        """Empty for the default columns."""
        return "" if self.columns == list(run_columns.DEFAULT) else ",".join(map(str, self.columns))

    @cached_property
    def sort(self) -> Sort:
        given = self.parameters.get(ORDER_VAR, "")
        if given and given not in Sort:
            self._found.append(f"There is no order {given[:60]!r}. Expected {', '.join(Sort)}.")
        return Sort(given) if given in Sort else Sort.NEWEST

    @cached_property
    def tz(self) -> dt.tzinfo:
        """The time zone of the search and of the times shown. Raises InvalidSearch.

        If the address names none and its search has dates, this is UTC, so that everyone finds the same runs.
        """
        name = self.parameters.get(TZ)
        if name is None:
            name = "UTC" if self._has_dates else self.request.session.get(_SESSION_KEY, "UTC")
        try:
            return search.time_zone(name)
        except ValueError as error:
            raise InvalidSearch(str(error)) from None

    @property
    def tz_or_utc(self) -> dt.tzinfo:
        try:
            return self.tz
        except InvalidSearch:
            return dt.UTC

    @property
    def _has_dates(self) -> bool:
        try:
            return search.has_local_times(search.parse(self.parameters.get(SEARCH_VAR, "")))
        except InvalidSearch:
            return False

    def remember_tz(self) -> None:
        """Remembers a valid time zone that the user chose. Those of views are not remembered."""
        name = self.parameters.get(TZ)
        session = self.request.session
        if name and VIEW not in self.parameters and session.get(_SESSION_KEY, "UTC") != name:
            try:
                search.time_zone(name)
            except ValueError:
                return
            session[_SESSION_KEY] = name

    @cached_property
    def state(self) -> ListState:
        try:
            tz = str(self.tz)
        except InvalidSearch:
            tz = self.parameters.get(TZ, "UTC")
        return ListState(self.parameters.get(SEARCH_VAR, ""), self.columns_text, self.sort, tz)

    @cached_property
    def differs(self) -> bool:
        """Whether the list shows something else than the view that it was opened with."""
        if self.view is None:
            return False
        saved = ListState.of(self.view)
        return saved.normalized() != self.state.normalized()

    # Set when the page has been read: the query string of links to its runs.
    link_suffix: str = ""

    @property
    def kept(self) -> dict[str, str]:
        """The parameters that define the list, without its page. They name the time zone unless it is UTC.

        With a view they always name it: an address that only names the view would be replaced.
        """
        names = (SEARCH_VAR, ORDER_VAR, COLUMNS, VIEW)
        kept = {name: self.parameters[name] for name in names if name in self.parameters}
        return kept | ({TZ: self.state.tz} if VIEW in kept or self.state.tz != "UTC" else {})
