"""The URLs of admin pages, for code and for templates: `{% load links %}`."""

from functools import cache, lru_cache
from urllib.parse import urlencode

from django import template
from django.db.models import Model
from django.urls import reverse

from runsadmin.search import Equal, Field, Node, Term

register = template.Library()


@register.filter
def change_url(row: Model, page: str = "change") -> str:
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_{page}", args=[row.pk])


@register.simple_tag
def list_url(model: type[Model] | str, page: str = "changelist") -> str:
    """The URL of a model's list. Templates pass the name of one of this app's models."""
    name = f"runsadmin_{model}" if isinstance(model, str) else model._meta.label_lower.replace(".", "_")
    return reverse(f"admin:{name}_{page}")


@register.filter
def search_url(node: Node | None) -> str:
    """The URL of the list of the runs that a search finds."""
    return query_url(str(node or ""))


@register.simple_tag
def query_url(text: str) -> str:
    """The URL of the list of runs with this text in the search box."""
    return f"{_run_list()}?{urlencode({'q': text})}"


@lru_cache(maxsize=10_000)
def value_url(field: str, value: str, key: str | None = None) -> str:
    """The URL of the list of the runs with this value. Cached, since the rows of a list have the same values."""
    return search_url(Term(Field(field, key), Equal(value)))


@register.simple_tag
def runs_with(field: str, value: str) -> str:
    """The URL of the list of the runs with this value: `{% runs_with "status" "failed" %}`."""
    return value_url(field, value)


@cache
def _run_list() -> str:
    """Reversing URLs in each row would take 8% of the time of a list."""
    return reverse("admin:runsadmin_run_changelist")
