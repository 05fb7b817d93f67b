"""The list of runs: its search box and its filters are one search."""

from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest

from runsadmin import keyset
from runsadmin.admin.change_list import KeysetChangeList
from runsadmin.errors import InvalidSearch
from runsadmin.models import Run
from runsadmin.services.run_search import RunSearch


class RunChangeList(KeysetChangeList):
    """`search` finds what the list shows. If the text in the box is invalid, the list is empty."""

    search: RunSearch
    search_error: InvalidSearch | None = None

    @property
    def search_parts(self) -> tuple[str, str]:
        """The search before the place of its error, and from there on."""
        place = ((self.search_error and self.search_error.position) or 1) - 1
        return self.query[:place], self.query[place:]

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
            return self.search.read_page(rows, size, after=after, before=before)
        except InvalidSearch as error:
            self.search_error = error
            return keyset.Page([], None, None)
