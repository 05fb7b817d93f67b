"""Filters of lists. No filter queries a table for the values that it offers."""

import datetime as dt
from functools import cached_property
from typing import Any, ClassVar

from django.contrib.admin import SimpleListFilter
from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from runsadmin import conf, search
from runsadmin.models import Run, Thread

Choices = list[tuple[str, str]]


class ListFilter(SimpleListFilter):
    search_field = ""  # The name of the field in the search language, if it has one.

    @property
    def label(self) -> str:
        """The selected value, as shown to users."""
        return str(dict(self.lookup_choices).get(str(self.value()), self.value()))

    @property
    def search_term(self) -> search.Node | None:
        """The search that finds the same rows. None for a list that has no search language."""
        return search.equal(self.search_field, str(self.value())) if self.search_field else None


class _Exact(ListFilter):
    """Filters by one value of a field. Without `options`, only links on other pages set it; it is shown to clear it."""

    options: ClassVar[Choices] = []

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return self.options or ([(value, value)] if (value := self.value()) else [])

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(**{str(self.parameter_name): self.value()}) if self.value() else queryset


def choice(field: str, options: Choices, *, title: str = "", search_field: str = "") -> type[ListFilter]:
    """Creates a filter on a field that has one of these values."""
    names = {"parameter_name": field, "title": title or field, "search_field": search_field}
    return type("ChoiceFilter", (_Exact,), {"options": options, **names})


class ConnectionFilter(_Exact):
    """Shown if more than one connection is configured."""

    title = parameter_name = search_field = "connection"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        aliases = list(conf.connections())
        return [(alias, alias) for alias in aliases] if len(aliases) > 1 or self.value() else []


class CreatedFilter(ListFilter):
    title = "time"
    parameter_name = "created"
    windows: ClassVar[dict[str, tuple[str, dt.timedelta]]] = {
        "hour": ("Last hour", dt.timedelta(hours=1)),
        "day": ("Last 24 hours", dt.timedelta(days=1)),
        "week": ("Last 7 days", dt.timedelta(days=7)),
        "month": ("Last 30 days", dt.timedelta(days=30)),
        "year": ("Last 365 days", dt.timedelta(days=365)),
    }

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [(name, title) for name, (title, _) in self.windows.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(created_at__gte=self.since, created_at_is_known=True) if self.since else queryset

    @cached_property
    def since(self) -> dt.datetime | None:
        """Computed once, so that the description of a selection has the time that was used in the query."""
        if not self.value():
            return None
        try:
            _, window = self.windows[str(self.value())]
        except KeyError:
            raise IncorrectLookupParameters from None
        return timezone.now() - window

    @property
    def search_term(self) -> search.Node | None:
        since = search.Compare(">=", self.since.isoformat()) if self.since else None
        return search.Term(search.Field("created"), since) if since else None


class MissingFilter(ListFilter):
    title = "state"
    parameter_name = "missing"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [("yes", "Missing upstream")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if not self.value():
            return queryset
        if self.value() != "yes":
            raise IncorrectLookupParameters
        return queryset.filter(missing_since__isnull=False)

    @property
    def search_term(self) -> search.Node:
        return search.Term(search.Field("missing"), search.Exists())


class _RowFilter(_Exact):
    """Filters by the primary key of a thread or run, and shows its upstream id."""

    model: ClassVar[type[Thread | Run]]

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        if not (value := self.value()):
            return []
        if not value.isdecimal():
            raise IncorrectLookupParameters
        return [(value, str(self.row or f"no {self.title} {value}"))]

    @cached_property
    def row(self) -> Any:
        rows = self.model._default_manager.only("upstream_id", "connection")
        return rows.filter(pk=int(self.value() or 0)).first()


class ThreadFilter(_RowFilter):
    title = parameter_name = "thread"
    model = Thread

    @property
    def search_term(self) -> search.Node:
        """Names the connection as well, since another one may have a thread with this id."""
        thread = search.equal("thread", self.label)
        return search.all_of([thread, search.equal("connection", self.row.connection)]) if self.row else thread


class RunFilter(_RowFilter):
    title = parameter_name = "run"
    model = Run


class MineFilter(ListFilter):
    title = "account"
    parameter_name = "by"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [("me", "Mine")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(actor=request.user) if self.value() == "me" else queryset
