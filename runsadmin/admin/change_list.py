"""Lists with keyset pagination: no count, no page numbers, no OFFSET, however large the table."""

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ERROR_FLAG
from django.core.paginator import Paginator
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest
from unfold.views import ChangeList

OLDER, NEWER = "older", "newer"


class KeysetChangeList(ChangeList):  # type: ignore[misc] # The theme has no types.
    """Newest first by the admin's `keyset`. The URLs of the adjacent pages name the row they start from."""

    older_url: str | None = None
    newer_url: str | None = None

    @property
    def filter_query(self) -> str:
        """The query string of the filters, without the page."""
        return str(self.get_query_string(remove=[OLDER, NEWER, ERROR_FLAG])).removeprefix("?")

    def get_filters_params(self, params: dict[str, Any] | None = None) -> dict[str, Any]:
        found: dict[str, Any] = super().get_filters_params(params)
        return {name: value for name, value in found.items() if name not in (OLDER, NEWER)}

    def get_queryset(self, request: HttpRequest, *args: Any, **options: Any) -> QuerySet[Any]:
        if any("\0" in value for values in request.GET.lists() for value in values[1]):
            raise IncorrectLookupParameters  # PostgreSQL rejects U+0000 even in a query.
        rows: QuerySet[Any] = super().get_queryset(request, *args, **options)
        return rows

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[str]:
        return list(self.model_admin.get_ordering(request))

    def get_results(self, request: HttpRequest) -> None:
        keyset, size = self.model_admin.keyset, self.list_per_page
        rows: QuerySet[Any] = self.queryset
        upwards = NEWER in request.GET
        if upwards:
            rows = rows.filter(_beyond(keyset, request.GET[NEWER], "gt")).order_by(*keyset)
        elif OLDER in request.GET:
            rows = rows.filter(_beyond(keyset, request.GET[OLDER], "lt"))
        found = list(rows[: size + 1])
        has_more, page = len(found) > size, found[:size]
        if upwards:
            page.reverse()
        if page and (has_more if upwards else OLDER in request.GET):
            self.newer_url = self._beside(NEWER, _key(keyset, page[0]))
        if page and (upwards or has_more):
            self.older_url = self._beside(OLDER, _key(keyset, page[-1]))
        if not page and (
            upwards or OLDER in request.GET
        ):  # The rows were deleted in the meantime: go to the first page.
            self.newer_url = self.get_query_string(remove=[OLDER, NEWER])

        self.result_list = page
        self.result_count = self.full_result_count = len(page)
        self.show_full_result_count = self.show_admin_actions = self.can_show_all = self.multi_page = False
        self.paginator = Paginator(page, size)

    def _beside(self, direction: str, key: str) -> str:
        return str(self.get_query_string({direction: key}, remove=[OLDER, NEWER]))


@dataclass(frozen=True)
class Slice[M: Model]:
    """Some of the rows in key order, and the keys at which the adjacent slices start."""

    rows: list[M]
    before: int | None
    after: int | None


def in_order[M: Model](rows: QuerySet[M], at: Mapping[str, str], size: int) -> Slice[M]:
    """The slice `after=` or `before=` a key, otherwise the first. An invalid key is ignored."""
    after, before = (_whole_number(at.get(side, "")) for side in ("after", "before"))
    if before is not None:
        found = list(rows.filter(pk__lt=before).order_by("-pk")[: size + 1])
        page = found[:size][::-1]
        has_earlier, has_later = len(found) > size, True
    else:
        found = list((rows if after is None else rows.filter(pk__gt=after)).order_by("pk")[: size + 1])
        page = found[:size]
        has_earlier, has_later = after is not None, len(found) > size
    if not page:
        return Slice([], None, None)
    return Slice(page, page[0].pk if has_earlier else None, page[-1].pk if has_later else None)


def chunks[M: Model](rows: QuerySet[M], size: int) -> Iterator[list[M]]:
    """All rows in key order, with no query open between two chunks."""
    chunk = list(rows.order_by("pk")[:size])
    while chunk:
        yield chunk
        chunk = list(rows.filter(pk__gt=chunk[-1].pk).order_by("pk")[:size]) if len(chunk) == size else []


def _whole_number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 19 else None


def _key(keyset: tuple[str, ...], row: Model) -> str:
    """The key of a row as text: `2026-01-01T00:00:00+00:00,17`."""
    values = [getattr(row, field) for field in keyset]
    return ",".join(value.isoformat() if isinstance(value, dt.datetime) else str(value) for value in values)


def _beyond(keyset: tuple[str, ...], text: str, side: str) -> Q:
    """The rows beyond a key. Raises IncorrectLookupParameters if it is not a key.

    With a time and a primary key: `time <= t AND (time < t OR pk < p)`. The first part gives the database an index
    range, which it would not derive from the OR.
    """
    try:
        *time, pk = text.split(",")
        if len(time) + 1 != len(keyset):
            raise ValueError
        key = int(pk)
        if not time:
            return Q(**{f"pk__{side}": key})
        at = dt.datetime.fromisoformat(time[0])
        if at.tzinfo is None:
            raise ValueError
        at = at.astimezone(dt.UTC)
    except (ValueError, OverflowError):
        raise IncorrectLookupParameters from None
    first = keyset[0]
    return Q(**{f"{first}__{side}e": at}) & (Q(**{f"{first}__{side}": at}) | Q(**{f"pk__{side}": key}))
