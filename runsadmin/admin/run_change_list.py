"""The list of runs: its search box and its filters are one search."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from django.contrib.admin.views.main import ORDER_VAR
from django.db.models import QuerySet
from django.http import HttpRequest

from runsadmin import keyset
from runsadmin.admin.change_list import NEWER, OLDER, KeysetChangeList
from runsadmin.errors import InvalidSearch
from runsadmin.models import Run
from runsadmin.services.run_search import RunSearch, Sort

_LABELS = {
    Sort.NEWEST: ("newest first", "Newer", "Older"),
    Sort.OLDEST: ("oldest first", "Older", "Newer"),
    Sort.MOST_TOKENS: ("most tokens first", "Previous", "Next"),
    Sort.FEWEST_TOKENS: ("fewest tokens first", "Previous", "Next"),
    Sort.LONGEST: ("longest first", "Previous", "Next"),
    Sort.SHORTEST: ("shortest first", "Previous", "Next"),
}


class RunChangeList(KeysetChangeList):
    """`search` finds what the list shows. If the text in the box is invalid, the list is empty."""

    search: RunSearch
    search_error: InvalidSearch | None = None

    @cached_property
    def sort(self) -> Sort:
        """The order that the user chose by a column's header."""
        for column, direction in self.get_ordering_field_columns().items():
            field = self.get_ordering_field(self.list_display[column]) if column < len(self.list_display) else None
            sort = f"{'' if direction == 'asc' else '-'}{field}"
            if sort in Sort:
                return Sort(sort)
        return Sort.NEWEST

    @property
    def order(self) -> keyset.Order:
        return self.sort.order

    @property
    def labels(self) -> tuple[str, str, str]:
        return _LABELS[self.sort]

    def get_query_string(self, new_params: Mapping[str, Any] | None = None, remove: Sequence[str] | None = None) -> str:
        """A link to another order leads to its first page."""
        if new_params and ORDER_VAR in new_params:
            remove = [*(remove or ()), OLDER, NEWER]
        return str(super().get_query_string(new_params, remove))

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
        try:
            rows: QuerySet[Any] = super().get_queryset(request, *args, **options)
            typed = RunSearch.parse(self.query)
        except InvalidSearch as error:
            self.search_error = error
            return Run.objects.none()
        self.search = typed.narrowed([spec.search_term for spec in self.filter_specs if spec.value()])
        return rows

    def read_page(self, size: int, after: keyset.Key | None, before: keyset.Key | None) -> keyset.Page[Run]:
        try:
            self.check_search()
            rows = self.apply_select_related(self.root_queryset)
            return self.search.read_page(rows, size, after=after, before=before, sort=self.sort)
        except InvalidSearch as error:
            self.search_error = error
            return keyset.Page([], None, None)
