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


def choice(field: str, choices: Choices, *, title: str = "") -> type[SimpleListFilter]:
    """A filter on a field that holds one of these choices."""

    class Choice(SimpleListFilter):
        parameter_name = field

        def __init__(self, *args: Any) -> None:
            self.title = title or field.replace("_", " ")
            super().__init__(*args)

        def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
            return choices

        def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
            return queryset.filter(**{field: self.value()}) if self.value() else queryset

    return Choice


class ConnectionFilter(SimpleListFilter):
    """Shown if more than one connection is configured."""

    title = "connection"
    parameter_name = "connection"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        aliases = list(conf.connections())
        return [(alias, alias) for alias in aliases] if len(aliases) > 1 or self.value() else []

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(connection=self.value()) if self.value() else queryset


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


class _Exact(SimpleListFilter):
    """A filter that is set by links on other pages and shown only while it is set, so that it can be cleared."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        value = self.value()
        return [(value, value)] if value else []

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(**{str(self.parameter_name): self.value()})


class ModelFilter(_Exact):
    title = "model"
    parameter_name = "model"


class AssistantFilter(_Exact):
    title = "assistant"
    parameter_name = "assistant_id"


class ThreadFilter(_Exact):
    """By the key of a tracked thread."""

    title = "thread"
    parameter_name = "thread"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        if (value := self.value()) is None:
            return []
        return [(value, str(Thread.objects.filter(pk=_key(value)).first() or f"no thread {value}"))]


class RunFilter(_Exact):
    """By the key of a run."""

    title = "run"
    parameter_name = "run"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        if (value := self.value()) is None:
            return []
        return [(value, str(Run.objects.only("upstream_id").filter(pk=_key(value)).first() or f"no run {value}"))]


def _key(value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise IncorrectLookupParameters from None


class MineFilter(SimpleListFilter):
    title = "account"
    parameter_name = "by"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [("me", "Mine")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(actor=request.user) if self.value() == "me" else queryset
