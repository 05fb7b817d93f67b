"""Keyset pagination of lists (see `runsadmin.keyset`)."""

import base64
from typing import Any, ClassVar

from rest_framework.exceptions import ValidationError
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from runsadmin import keyset

MAX_PAGE_SIZE = 500
PAGE_SIZE = 100
NEXT_EXAMPLE = "http://runsadmin.example/api/v1/edits/?cursor=YWZ0ZXI6MTc="


class IdPagination(BasePagination):
    """Newest first, by id. `cursor` and `page_size` are parameters of the view's query."""

    order: ClassVar[keyset.Order] = ("id",)
    next: str | None
    previous: str | None

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:
        side, key = self._read_cursor(view.query["cursor"], view) if "cursor" in view.query else ("", None)
        sides = {"after": key if side == "after" else None, "before": key if side == "before" else None}
        page = self.read_page(queryset, view, view.query["page_size"], **sides)
        self.next = self._link(request, "after", page.next)
        self.previous = self._link(request, "before", page.previous)
        return page.rows

    def read_page(self, queryset: Any, view: Any, size: int, **sides: Any) -> keyset.Page[Any]:
        return keyset.read_page(queryset, self.order, size, **sides)

    def read_key(self, text: str, view: Any) -> keyset.Key:
        """Raises ValueError."""
        return keyset.from_text(text, self.order)

    def get_paginated_response(self, data: Any) -> Response:
        links = {"next": self.next, "prev": self.previous}
        header = ", ".join(f'<{url}>; rel="{relation}"' for relation, url in links.items() if url is not None)
        body = {"results": data, "next": self.next, "previous": self.previous}
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

    def _link(self, request: Request, side: str, key: keyset.Key | None) -> str | None:
        if key is None:
            return None
        cursor = base64.urlsafe_b64encode(f"{side}:{keyset.to_text(key)}".encode()).decode()
        return str(replace_query_param(request.build_absolute_uri(), "cursor", cursor))


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
