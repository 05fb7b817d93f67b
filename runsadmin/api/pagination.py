"""Pages by key, never by number: no count and no offset, so the last page costs what the first one does.

Newest first, by (created_at, id) or by id alone. A cursor holds the place of the row at the page's edge.
"""

import base64
import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import Model, QuerySet
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.utils.urls import replace_query_param

MAX_PAGE_SIZE = 500
PAGE_SIZE = 100

type Order = tuple[str, ...]
BY_TIME: Order = ("created_at", "id")
BY_ID: Order = ("id",)


@dataclass(frozen=True)
class _Cursor:
    """A place in a list, and which way to go from there."""

    back: bool
    time: dt.datetime | None
    id: int

    @classmethod
    def at(cls, row: Model, order: Order, *, back: bool) -> "_Cursor":
        return cls(back, getattr(row, "created_at") if order == BY_TIME else None, row.pk)  # noqa: B009

    @classmethod
    def read(cls, text: str, order: Order) -> "_Cursor":
        try:
            back, time, id = json.loads(base64.urlsafe_b64decode(text.encode()))
            cursor = cls(back, None if time is None else dt.datetime.fromisoformat(time).astimezone(dt.UTC), id)
            is_one = type(back) is bool and type(id) is int and 0 <= id < 2**63 and (time is None) == (order == BY_ID)
        except (ValueError, TypeError, OverflowError, RecursionError):
            is_one = False
        if not is_one:
            raise ValidationError(
                {"cursor": "This is no cursor of this list. Take it from `next` or `previous`."}, code="invalid_cursor"
            )
        return cursor

    def __str__(self) -> str:
        time = None if self.time is None else self.time.isoformat()
        return base64.urlsafe_b64encode(json.dumps([self.back, time, self.id]).encode()).decode()

    def beyond[M: Model](self, rows: QuerySet[M]) -> QuerySet[M]:
        """The rows after this place in the way that it goes. Written so that an index on the order is a range."""
        after = "gt" if self.back else "lt"
        if self.time is None:
            return rows.filter(**{f"id__{after}": self.id})
        at_most = {f"created_at__{after}e": self.time}
        not_beyond = {"created_at": self.time, f"id__{'lte' if self.back else 'gte'}": self.id}
        return rows.filter(**at_most).exclude(**not_beyond)


@dataclass(frozen=True)
class Page[M: Model]:
    rows: list[M]
    next: str | None
    previous: str | None

    def response(self, results: Any) -> dict[str, Any]:
        return {"results": results, "next": self.next, "previous": self.previous}


def page_of[M: Model](rows: QuerySet[M], *, order: Order, query: Mapping[str, Any], request: Request) -> Page[M]:
    """One page, by the `cursor` and `page_size` of the query. One row more is read, to know whether there are more."""
    size: int = query["page_size"]
    cursor = _Cursor.read(query["cursor"], order) if "cursor" in query else None
    back = cursor is not None and cursor.back
    found = list((cursor.beyond(rows) if cursor else rows).order_by(*_signed(order, back=back))[: size + 1])
    more, found = len(found) > size, found[:size]
    if back:
        found.reverse()

    def link(row: M, *, back: bool) -> str:
        return str(replace_query_param(request.build_absolute_uri(), "cursor", str(_Cursor.at(row, order, back=back))))

    has_next, has_previous = (True, more) if back else (more, cursor is not None)
    return Page(
        found,
        link(found[-1], back=False) if found and has_next else None,
        link(found[0], back=True) if found and has_previous else None,
    )


def _signed(order: Order, *, back: bool) -> list[str]:
    return [name if back else f"-{name}" for name in order]
