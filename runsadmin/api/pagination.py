"""Keyset pagination of lists (see `runsadmin.keyset`)."""

import base64
from collections.abc import Iterable
from typing import Any, ClassVar

import orjson
from rest_framework.exceptions import ValidationError
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from runsadmin import keyset
from runsadmin.api.renderers import JSONRenderer

MAX_PAGE_SIZE = 500
PAGE_SIZE = 100
MAX_PAGE_BYTES = 8 * 1024 * 1024
NEXT_EXAMPLE = "http://runsadmin.example/api/v1/edits/?cursor=YWZ0ZXI6MTc="


class IdPagination(BasePagination):
    """Newest first, by id. `cursor` and `page_size` are parameters of the view's query."""

    order: ClassVar[keyset.Order] = ("id",)
    _request: Request
    _page: keyset.Page[Any]

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:
        """The rows of the page in the order in which they were read: the last row first if it precedes a cursor."""
        side, key = self._read_cursor(view.query["cursor"], view) if "cursor" in view.query else ("", None)
        sides = {"after": key if side == "after" else None, "before": key if side == "before" else None}
        self._request = request
        self._page = self.read_page(queryset, view, view.query["page_size"], **sides)
        return self._page.rows[::-1] if self._page.is_backward else self._page.rows

    def read_page(self, queryset: Any, view: Any, size: int, **sides: Any) -> keyset.Page[Any]:
        return keyset.read_page(queryset, self.order, size, **sides)

    def read_key(self, text: str, view: Any) -> keyset.Key:
        """Raises ValueError."""
        return keyset.from_text(text, self.order)

    def get_paginated_response(self, data: Iterable[Any]) -> Response:
        """The response with the representations of the rows, as bytes or values, in the order of `paginate_queryset`.

        A page that would be longer than MAX_PAGE_BYTES has fewer rows, but at least one.
        """
        results = _within(MAX_PAGE_BYTES, data)
        page = self._page.first_read(len(results))
        if page.is_backward:
            results.reverse()
        links = {"next": self._link("after", page.next), "prev": self._link("before", page.previous)}
        header = ", ".join(f'<{url}>; rel="{relation}"' for relation, url in links.items() if url is not None)
        body = {"results": results, "next": links["next"], "previous": links["prev"]}
        return Response(body, headers={"Link": header} if header else None)

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

    def _read_cursor(self, cursor: str, view: Any) -> tuple[str, keyset.Key]:
        try:
            side, _, key = base64.urlsafe_b64decode(cursor.encode()).decode().partition(":")
            if side in ("after", "before"):
                return side, self.read_key(key, view)
        except ValueError:
            pass
        raise ValidationError(
            {"cursor": "Not a cursor of this list. Take it from `next` or `previous`."}, code="invalid_cursor"
        )

    def _link(self, side: str, key: keyset.Key | None) -> str | None:
        if key is None:
            return None
        cursor = base64.urlsafe_b64encode(f"{side}:{keyset.to_text(key)}".encode()).decode()
        return str(replace_query_param(self._request.build_absolute_uri(), "cursor", cursor))


def _within(size: int, representations: Iterable[Any]) -> list[orjson.Fragment]:
    """As many representations as fit in this many bytes, but at least one if there are any. Reads no more than that."""
    fragments: list[orjson.Fragment] = []
    for data in representations:
        content = data if isinstance(data, bytes) else JSONRenderer().render(data)
        size -= len(content)
        if size < 0 and fragments:
            break
        fragments.append(orjson.Fragment(content))
    return fragments


class CreatedAtPagination(IdPagination):
    """Newest first, by creation time."""

    order = ("created_at", "id")


class RunPagination(IdPagination):
    """Pages of what the view's `search` finds, sorted as its query says."""

    def read_page(self, queryset: Any, view: Any, size: int, **sides: Any) -> keyset.Page[Any]:
        page: keyset.Page[Any] = view.search.read_page(queryset, size, sort=view.query["sort"], **sides)
        return page

    def read_key(self, text: str, view: Any) -> keyset.Key:
        return keyset.from_text(text, view.query["sort"].order)


class TextPagination(IdPagination):
    """Pages of metadata keys or values (`services.metadata_keys`), in byte order."""

    order = ("text",)

    def read_page(self, queryset: Any, view: Any, size: int, **sides: Any) -> keyset.Page[Any]:
        page: keyset.Page[Any] = queryset.read_page(size, **{side: key and key[0] for side, key in sides.items()})
        return page

    def read_key(self, text: str, view: Any) -> keyset.Key:
        return (text,)
