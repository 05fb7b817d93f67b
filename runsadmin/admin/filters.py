"""Filters of lists. No filter queries a table for the values that it offers."""

from functools import cached_property
from typing import Any, ClassVar

from django.contrib.admin import SimpleListFilter
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest

from runsadmin import conf
from runsadmin.models import Run, Thread
from runsadmin.models.edit import UNSETTLED

MAX_DIGITS = 18  # Of a primary key.

Choices = list[tuple[str, str]]


class _Exact(SimpleListFilter):
    """Filters by one value of a field. Without `options`, only links on other pages set it; it is shown to clear it."""

    options: ClassVar[Choices] = []

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return self.options or ([(value, value)] if (value := self.value()) else [])

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        try:
            return queryset.filter(**{str(self.parameter_name): self.value()}) if self.value() else queryset
        except (ValueError, ValidationError) as error:
            raise IncorrectLookupParameters from error


def choice(field: str, options: Choices, *, title: str = "") -> type[SimpleListFilter]:
    """Creates a filter on a field that has one of these values."""
    return type("ChoiceFilter", (_Exact,), {"options": options, "parameter_name": field, "title": title or field})


class ConnectionFilter(_Exact):
    """Shown if more than one connection is configured."""

    title = parameter_name = "connection"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        aliases = list(conf.connections())
        return [(alias, alias) for alias in aliases] if len(aliases) > 1 or self.value() else []


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


class _RowFilter(_Exact):
    """Filters by the primary key of a thread or run, and shows its upstream id."""

    model: ClassVar[type[Thread | Run]]

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        if not (value := self.value()):
            return []
        if not value.isdecimal() or len(value) > MAX_DIGITS:
            raise IncorrectLookupParameters
        return [(value, str(self.row or f"no {self.title} {value}"))]

    @cached_property
    def row(self) -> Any:
        rows = self.model._default_manager.only("upstream_id", "connection")
        return rows.filter(pk=int(self.value() or 0)).first()


class ThreadFilter(_RowFilter):
    title = parameter_name = "thread"
    model = Thread


class RunFilter(_RowFilter):
    title = parameter_name = "run"
    model = Run


class RestoredFilter(SimpleListFilter):
    """Edits from a backup that was restored. Shown only while it is used: links on other pages set it."""

    title = "backup"
    parameter_name = "restored"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [("yes", "Wait since a restore")] if self.value() else []

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if not self.value():
            return queryset
        if self.value() != "yes":
            raise IncorrectLookupParameters
        return queryset.filter(restored_from__isnull=False, status__in=UNSETTLED)


class ActorFilter(SimpleListFilter):
    """One's own rows, or those of the account whose name was clicked."""

    title = "account"
    parameter_name = "by"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        shown = self.value() or "me"
        return [("me", "Mine"), *([] if shown == "me" else [(shown, shown)])]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        match self.value():
            case None | "":
                return queryset
            case "me":
                return queryset.filter(actor=request.user)
            case name:  # By primary key: with a join, the database might not use the index.
                return queryset.filter(actor__in=list(User.objects.filter(username=name).values_list("pk", flat=True)))
