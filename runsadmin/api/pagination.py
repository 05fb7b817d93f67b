"""Keyset pagination: no count and no offset, so the last page costs what the first one does."""

import base64
import datetime as dt
import json
from dataclasses import dataclass
from typing import Any, ClassVar

from django.db.models import Model, QuerySet
from rest_framework.exceptions import ValidationError
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

MAX_PAGE_SIZE = 500
PAGE_SIZE = 100

NEXT_EXAMPLE = "http://runsadmin.example/api/v1/runs/?cursor=W2ZhbHNlLCAiMjAyNi0wMS0zMVQwOTowMDowMCswMDowMCIsIDE3XQ=="


@dataclass(frozen=True)
class _Cursor:
    """The row at the edge of a page, and the direction to go from there."""

    backward: bool
    time: dt.datetime | None
    id: int

    @classmethod
    def read(cls, text: str, *, has_time: bool) -> "_Cursor":
        try:
            backward, time, id = json.loads(base64.urlsafe_b64decode(text.encode()))
            cursor = cls(backward, None if time is None else dt.datetime.fromisoformat(time).astimezone(dt.UTC), id)
            is_valid = type(backward) is bool and type(id) is int and 0 <= id < 2**63 and (time is not None) == has_time
        except (ValueError, TypeError, OverflowError, RecursionError):
            is_valid = False
        if not is_valid:
            raise ValidationError(
                {"cursor": "Not a cursor of this list. Take it from `next` or `previous`."}, code="invalid_cursor"
            )
        return cursor

    def __str__(self) -> str:
        time = None if self.time is None else self.time.isoformat()
        return base64.urlsafe_b64encode(json.dumps([self.backward, time, self.id]).encode()).decode()

    def beyond[M: Model](self, rows: QuerySet[M]) -> QuerySet[M]:
        """The rows after this one in its direction, as a condition that is a range of an index."""
        after = "gt" if self.backward else "lt"
        if self.time is None:
            return rows.filter(**{f"id__{after}": self.id})
        up_to_time = {f"created_at__{after}e": self.time}
        up_to_row = {"created_at": self.time, f"id__{'lte' if self.backward else 'gte'}": self.id}
        return rows.filter(**up_to_time).exclude(**up_to_row)


class IdPagination(BasePagination):
    """Newest first, by id. `cursor` and `page_size` are parameters of the view's query."""

    ordering: ClassVar[tuple[str, ...]] = ("-id",)
    next: str | None = None
    previous: str | None = None

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:
        size: int = view.query["page_size"]
        cursor = _Cursor.read(view.query["cursor"], has_time=self._has_time) if "cursor" in view.query else None
        backward = cursor is not None and cursor.backward
        rows = (cursor.beyond(queryset) if cursor else queryset).order_by(*self.ordering)
        found = list((rows.reverse() if backward else rows)[: size + 1])  # One more row: are there more pages?
        has_more, found = len(found) > size, found[:size]
        if backward:
            found.reverse()
        has_next, has_previous = (True, has_more) if backward else (has_more, cursor is not None)
        if found and has_next:
            self.next = self._link(request, found[-1], backward=False)
        if found and has_previous:
            self.previous = self._link(request, found[0], backward=True)
        return found

    def get_paginated_response(self, data: Any) -> Response:
        return Response({"results": data, "next": self.next, "previous": self.previous})

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        link = {"type": ["string", "null"], "format": "uri"}
        return {
            "type": "object",
            "required": ["results", "next", "previous"],
            "properties": {
                "results": schema,
                "next": link | {"description": "URL of the next page. Null on the last one.", "example": NEXT_EXAMPLE},
                "previous": link | {"description": "URL of the previous page. Null on the first.", "example": None},
            },
        }

    @property
    def _has_time(self) -> bool:
        return "-created_at" in self.ordering

    def _link(self, request: Request, row: Any, *, backward: bool) -> str:
        cursor = _Cursor(backward, row.created_at if self._has_time else None, row.pk)
        return str(replace_query_param(request.build_absolute_uri(), "cursor", str(cursor)))


class CreatedAtPagination(IdPagination):
    """Newest first, by time of creation."""

    ordering = ("-created_at", "-id")
