"""Lists with keyset pagination: without a count, page numbers or OFFSET, they are fast on tables of any size."""

from collections.abc import Mapping
from typing import Any

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ERROR_FLAG, ORDER_VAR
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from unfold.views import ChangeList

from runsadmin import keyset
from runsadmin.text import is_text

OLDER, NEWER = "older", "newer"


class ThemedChangeList(ChangeList):  # type: ignore[misc] # The theme has no types.
    def get_queryset(self, request: HttpRequest, *args: Any, **options: Any) -> QuerySet[Any]:
        if not all(is_text(value) for _, values in request.GET.lists() for value in values):
            raise IncorrectLookupParameters  # PostgreSQL rejects such text in query parameters too.
        rows: QuerySet[Any] = super().get_queryset(request, *args, **options)
        return rows


class KeysetChangeList(ThemedChangeList):
    """Lists rows newest first, in the order of the admin's `keyset`.

    The URL of an adjacent page contains the key of this page's first or last row.
    """

    older_url: str | None = None
    newer_url: str | None = None
    is_live = False

    @property
    def filter_query(self) -> str:
        """The query string of the filters, without the page."""
        return str(self.get_query_string(remove=[OLDER, NEWER, ORDER_VAR, ERROR_FLAG])).removeprefix("?")

    @property
    def ticks(self) -> str:
        """Identifies the lists that share their ticks: on all lists with the same text, the same rows are ticked."""
        return self.filter_query

    @property
    def labels(self) -> tuple[str, str, str]:
        """The name of the order, and the links to the previous and the next page."""
        return "newest first", "Newer", "Older"

    @property
    def order(self) -> keyset.Order:
        """The fields that identify a position in the list."""
        order: keyset.Order = self.model_admin.keyset
        return order

    def get_filters_params(self, params: dict[str, Any] | None = None) -> dict[str, Any]:
        found: dict[str, Any] = super().get_filters_params(params)
        return {name: value for name, value in found.items() if name not in (OLDER, NEWER)}

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[str]:
        return list(self.model_admin.get_ordering(request))

    def get_results(self, request: HttpRequest) -> None:
        order, size = self.order, self.list_per_page
        try:
            older, newer = (
                keyset.from_text(request.GET[side], order) if side in request.GET else None for side in (OLDER, NEWER)
            )
        except ValueError:
            raise IncorrectLookupParameters from None
        page = self.read_page(size, older, newer)
        if page.previous is not None:
            self.newer_url = self._page_url(NEWER, page.previous)
        if page.next is not None:
            self.older_url = self._page_url(OLDER, page.next)
        if not page.rows and (older or newer):  # The rows were deleted in the meantime: link to the first page.
            self.newer_url = self.get_query_string(remove=[OLDER, NEWER])

        self.result_list = page.rows
        self.is_live = any(map(self.model_admin.is_live, page.rows))
        self.result_count = self.full_result_count = len(page.rows)
        self.show_full_result_count = self.show_admin_actions = self.can_show_all = self.multi_page = False
        self.paginator = Paginator(page.rows, size)

    def read_page(self, size: int, after: keyset.Key | None, before: keyset.Key | None) -> keyset.Page[Any]:
        return keyset.read_page(self.queryset, self.order, size, after=after, before=before)

    def _page_url(self, direction: str, key: keyset.Key) -> str:
        return str(self.get_query_string({direction: keyset.to_text(key)}, remove=[OLDER, NEWER]))


def in_order[M: Model](rows: QuerySet[M], at: Mapping[str, str], size: int) -> keyset.Page[M]:
    """A page in the order of primary keys: the one after `at["after"]` or before `at["before"]`, otherwise the first.

    An invalid key is ignored.
    """
    after, before = (_key(at.get(side, "")) for side in ("after", "before"))
    return keyset.read_page(rows, ("pk",), size, after=after, before=before, ascending=True)


def _key(text: str) -> keyset.Key | None:
    try:
        return keyset.from_text(text, ("pk",))
    except ValueError:
        return None
