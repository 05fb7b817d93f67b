"""The list of runs: its search box and its filters are one search."""

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from typing import Any
from urllib.parse import urlencode

from django.contrib.admin.views.main import ORDER_VAR, SEARCH_VAR
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse

from runsadmin import keyset
from runsadmin.admin import list_state, run_position, search_shortcuts
from runsadmin.admin.change_list import NEWER, OLDER, KeysetChangeList
from runsadmin.admin.list_state import COLUMNS, TZ, VIEW, ListAddress
from runsadmin.admin.list_tools import ListTools
from runsadmin.admin.search_shortcuts import Shortcut
from runsadmin.errors import InvalidSearch
from runsadmin.models import Run
from runsadmin.search import Node, Or
from runsadmin.services.run_search import RunSearch, Sort
from runsadmin.templatetags import links

# A text to complete in the search box, and the metadata key whose values are counted.
COMPLETE, FACET = "complete", "facet"
PARAMETERS = {SEARCH_VAR, ORDER_VAR, COLUMNS, TZ, VIEW, OLDER, NEWER, COMPLETE, FACET}
LABELS = {
    Sort.NEWEST: ("newest first", "Newer", "Older"),
    Sort.OLDEST: ("oldest first", "Older", "Newer"),
    Sort.MOST_TOKENS: ("most tokens first", "Previous", "Next"),
    Sort.FEWEST_TOKENS: ("fewest tokens first", "Previous", "Next"),
    Sort.LONGEST: ("longest first", "Previous", "Next"),
    Sort.SHORTEST: ("shortest first", "Previous", "Next"),
}


class RunChangeList(KeysetChangeList):
    """`search` finds what the list shows. If the text in the box is invalid, the list is empty."""

    shown: ListAddress
    tools: ListTools
    search: RunSearch
    search_error: InvalidSearch | None = None

    @property
    def sort(self) -> Sort:
        return self.shown.sort

    def get_ordering_field_columns(self) -> dict[int, str]:
        """The number of the column that the list is sorted by, if it is shown, and the direction."""
        if ORDER_VAR not in self.params:
            return {}
        direction = "asc" if self.sort.is_ascending else "desc"
        fields = [self.get_ordering_field(column) for column in self.list_display]
        return {fields.index(self.sort.column): direction} if self.sort.column in fields else {}

    @property
    def order(self) -> keyset.Order:
        return self.sort.order

    @property
    def labels(self) -> tuple[str, str, str]:
        return LABELS[self.sort]

    def get_query_string(self, new_params: Mapping[str, Any] | None = None, remove: Sequence[str] | None = None) -> str:
        """A link to another order leads to its first page, and names the field instead of the column's number."""
        if new_params and ORDER_VAR in new_params:
            remove = [*(remove or ()), OLDER, NEWER]
            new_params = {**new_params, ORDER_VAR: self._order_named(str(new_params[ORDER_VAR]))}
        query = str(super().get_query_string(new_params, remove))
        return f"?{SEARCH_VAR}=" if query == "?" else query  # An address without parameters opens the default view.

    def _order_named(self, numbers: str) -> str | None:
        """The first of these columns by name: `-duration` for `-5.3`. None, which removes the parameter, if empty."""
        first = numbers.partition(".")[0]
        if not first:
            return None
        field = self.get_ordering_field(self.list_display[int(first.lstrip("-"))])
        return f"{'-' if first.startswith('-') else ''}{field}"

    def get_filters_params(self, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Reports unknown parameters as an error. There are no filters besides the search."""
        unknown = [name for name in self.params if name not in PARAMETERS]
        if unknown:
            self.search_error = InvalidSearch(f"There is no filter {unknown[0]!r}. Enter a search instead.")
        return {}

    @property
    def node(self) -> Node | None:
        """What the list searches for. None if it shows all runs or the search is invalid."""
        return None if self.search_error else self.search.node

    @property
    def search_to_extend(self) -> str:
        """The search, in parentheses if necessary, so that another term can follow it."""
        return f"({self.node})" if isinstance(self.node, Or) else str(self.node or "")

    @cached_property
    def shortcuts(self) -> list[tuple[Shortcut, str]]:
        """The selects beside the search box that have more than one option to offer, and what is selected."""
        found = [(shortcut, shortcut.selected(self.node)) for shortcut in search_shortcuts.shortcuts()]
        return [each for each in found if each[0].name != "connection" or len(each[0].options) > 1 or each[1]]

    @property
    def kept_parameters(self) -> list[tuple[str, str]]:
        """The URL parameters that another search keeps: all but the search itself and the page."""
        others = (SEARCH_VAR, OLDER, NEWER, COMPLETE, TZ)
        kept = [(name, value) for name, value in self.params.items() if name not in others]
        return [*kept, *((name, value) for name, value in self.shown.kept.items() if name == TZ)]

    @property
    def url_without_search(self) -> str:
        return str(self.get_query_string(remove=[SEARCH_VAR, OLDER, NEWER]))

    @property
    def ticks(self) -> str:
        """The same for lists that differ only in their columns or order, since these show the same runs."""
        return urlencode({SEARCH_VAR: self.query, TZ: self.shown.state.tz})

    @property
    def ticked_url(self) -> str:
        return f"{links.list_url(Run, 'ticked')}?{self.ticks}"

    @property
    def facets_url(self) -> str:
        return f"{links.list_url(Run, 'facets')}?{self.filter_query}" if not self.search_error else ""

    @property
    def curl(self) -> str:
        """The shell command that fetches the same list from the REST API."""
        tz = self.shown.state.tz
        parameters = {
            "q": self.query, "sort": "" if self.sort == Sort.NEWEST else self.sort, "tz": "" if tz == "UTC" else tz,
        }  # fmt: skip
        query = urlencode({name: value for name, value in parameters.items() if value})
        return f"curl -H \"Authorization: Token $TOKEN\" '{self.api_url}{'?' * bool(query)}{query}'"

    @property
    def period(self) -> tuple[str, str]:
        return search_shortcuts.period(self.node)

    @property
    def search_parts(self) -> tuple[str, str]:
        """The text of the search before the position of its error, and the rest."""
        position = ((self.search_error and self.search_error.position) or 1) - 1
        return self.query[:position], self.query[position:]

    def check_search(self) -> None:
        """Raises InvalidSearch if the list shows nothing because its search is invalid."""
        if self.search_error:
            raise self.search_error

    def get_queryset(self, request: HttpRequest, *args: Any, **options: Any) -> QuerySet[Any]:
        self.shown = list_state.of(request)
        self.tools = ListTools(request, self.shown)
        rows: QuerySet[Any] = super().get_queryset(request, *args, **options)
        self.api_url = request.build_absolute_uri(reverse("api:run-list"))
        try:
            self.check_search()
            self.search = RunSearch.parse(self.query, self.shown.tz)
        except InvalidSearch as error:
            self.search_error = error
            return Run.objects.none()
        return rows.filter(self.search.condition())

    def read_page(self, size: int, after: keyset.Key | None, before: keyset.Key | None) -> keyset.Page[Run]:
        try:
            self.check_search()
            rows = self.apply_select_related(self.root_queryset)
            page = self.search.read_page(rows, size, after=after, before=before, sort=self.sort)
        except InvalidSearch as error:
            self.search_error = error
            return keyset.Page([], None, None, partial(keyset.key_of, self.sort.order))
        self.shown.link_suffix = run_position.link_suffix(self.shown.kept, self.sort, page.rows)
        return page
