"""The URLs of admin pages, for code and for templates: `{% load links %}`."""

from functools import cache, lru_cache
from urllib.parse import urlencode

from django import template
from django.db.models import Model
from django.urls import reverse

from runsadmin import conf
from runsadmin.models import MetadataPair, Thread
from runsadmin.search import Equal, Field, Node, Term, all_of
from runsadmin.upstream.records import indexed_key, indexed_text

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
def query_url(text: str, parameter: str = "q") -> str:
    """The URL of the list of runs with this text in the search box."""
    return f"{_run_list()}?{urlencode({parameter: text})}"


@lru_cache(maxsize=10_000)
def value_url(field: str, value: str, key: str | None = None) -> str:
    """The URL of the list of the runs with this value. Cached, since many rows of a list have the same values."""
    return search_url(Term(Field(field, key), Equal(value)))


@register.simple_tag
def runs_with(field: str, value: object, key: str | None = None) -> str:
    """The URL of the list of the runs with this value: `{% runs_with "status" "failed" %}`.

    The value is cut like those in the searched columns, which hold only the beginning of a long text.
    """
    length = MetadataPair.INDEXED_LENGTH
    return value_url(field, indexed_text(value, length), None if key is None else indexed_key(key, length))


@register.filter
def runs_of_thread(thread: Thread) -> str:
    """The URL of the list of the runs of a thread. Another connection may have a thread with the same id."""
    terms = [Term(Field("thread"), Equal(str(thread)))]
    if conf.default_connection() != thread.connection:
        terms.append(Term(Field("connection"), Equal(thread.connection)))
    return search_url(all_of(terms))


@cache
def _run_list() -> str:
    """Reversing URLs in each row would take 8% of the time of a list."""
    return reverse("admin:runsadmin_run_changelist")
