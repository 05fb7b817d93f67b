"""Filters with fixed choices: none of them queries the table for its values."""

import datetime as dt
from functools import cached_property
from typing import Any, ClassVar

from django.contrib.admin import SimpleListFilter
from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from runsadmin import conf
from runsadmin.models import Run, Thread

Choices = list[tuple[str, str]]


class _Exact(SimpleListFilter):
    """A filter by one value of a field. Without options it is set by links on other pages, and shown to clear it."""

    options: ClassVar[Choices] = []

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return self.options or ([(value, value)] if (value := self.value()) else [])

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(**{str(self.parameter_name): self.value()}) if self.value() else queryset


def choice(field: str, options: Choices, *, title: str = "") -> type[SimpleListFilter]:
    """A filter on a field that holds one of these values."""
    return type("ChoiceFilter", (_Exact,), {"parameter_name": field, "options": options, "title": title or field})


class ConnectionFilter(_Exact):
    """Shown if more than one connection is configured."""

    title = parameter_name = "connection"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        aliases = list(conf.connections())
        return [(alias, alias) for alias in aliases] if len(aliases) > 1 or self.value() else []


class CreatedFilter(SimpleListFilter):
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
        """Computed once, so that the description of a selection names the time that was actually used."""
        if not self.value():
            return None
        try:
            _, window = self.windows[str(self.value())]
        except KeyError:
            raise IncorrectLookupParameters from None
        return timezone.now() - window


class MissingFilter(SimpleListFilter):
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


class ModelFilter(_Exact):
    title = parameter_name = "model"


class AssistantFilter(_Exact):
    title = "assistant"
    parameter_name = "assistant_id"


class _RowFilter(_Exact):
    """By the key of a row, shown by its id."""

    model: ClassVar[type[Thread | Run]]

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        if not (value := self.value()):
            return []
        if not value.isdecimal():
            raise IncorrectLookupParameters
        row = self.model._default_manager.only("upstream_id").filter(pk=int(value)).first()
        return [(value, str(row or f"no {self.title} {value}"))]


class ThreadFilter(_RowFilter):
    title = parameter_name = "thread"
    model = Thread


class RunFilter(_RowFilter):
    title = parameter_name = "run"
    model = Run


class MineFilter(SimpleListFilter):
    title = "account"
    parameter_name = "by"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [("me", "Mine")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(actor=request.user) if self.value() == "me" else queryset
