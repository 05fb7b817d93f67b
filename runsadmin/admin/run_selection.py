"""Which runs somebody chose in the list for a bulk edit: those that were ticked, or all that the list shows.

Ticked runs are posted as their keys. All that a list shows are never posted as keys: the list's own query string is,
and the list is asked again what it means.
"""

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models import QuerySet
from django.http import HttpRequest, QueryDict

from runsadmin import search
from runsadmin.admin.base import ReadOnlyAdmin
from runsadmin.admin.id_search import MOST, leaves_some_out
from runsadmin.errors import InvalidSelection
from runsadmin.models import Run
from runsadmin.services.bulk_edits import Selection, select_all

MOST_TICKED = 1_000
COUNTED = 100_000
# Begins what is no search: a list was filtered by what the search language has no word for.
IN_WORDS = "in words: "


@dataclass(frozen=True)
class Choice:
    """Runs, in words for people (empty: they were named), and the hidden fields by which a form carries them on.

    `query` is the search that finds them, or begins with IN_WORDS; empty for all runs, and for those that were named.
    """

    runs: QuerySet[Run]
    words: str
    carried: Mapping[str, str]
    keys: frozenset[int] = frozenset()
    query: str = ""

    @cached_property
    def count(self) -> int:
        """How many there are now, counted no further than one beyond COUNTED."""
        return self.runs.order_by()[: COUNTED + 1].count()

    def freeze(self) -> Selection:
        """Raises InvalidSelection, UnknownConnection."""
        selection = select_all(self.runs, query=self.query)
        if not (self.keys or self.query):
            return replace(selection, query=search.word("connection", selection.connection))
        gone = sorted(self.keys.difference(selection.keys))
        return replace(selection, left_out=[(f"the run with the key {key} here", "unknown") for key in gone])


def ticked(values: list[str]) -> Choice:
    """Each value is a key, or more of them between commas. Raises InvalidSelection."""
    parts = [part for value in values for part in value.split(",") if part]
    if not all(part.isdecimal() and len(part) < 19 for part in parts):
        raise InvalidSelection("These are no keys of runs. Choose them in the list.")
    keys = frozenset(map(int, parts))
    if len(keys) > MOST_TICKED:
        raise InvalidSelection(
            f"{len(keys):,} runs are ticked, and at most {MOST_TICKED:,} can be. Filter the list to what is meant,"
            " and choose all that match."
        )
    joined = ",".join(map(str, sorted(keys)))
    return Choice(Run.objects.filter(pk__in=keys), "", {"run": joined}, keys)


def matching(run_admin: ReadOnlyAdmin, request: HttpRequest, query: str) -> Choice:
    """All that the list shows at this query string, on all of its pages. Raises InvalidSelection."""
    asked = copy(request)
    asked.GET = QueryDict(query)  # The list reads nothing else of it.
    try:
        shown = run_admin.get_changelist_instance(asked)
    except IncorrectLookupParameters:
        raise InvalidSelection("The list does not understand this filter. Choose the runs in the list.") from None
    if shown.query and leaves_some_out(shown.query):
        raise InvalidSelection(
            f"More than {MOST} ids begin with {shown.query!r}, and the list shows the first of them only: type more of"
            " the id, or filter by something else."
        )
    filters = [spec for spec in shown.filter_specs if spec.value()]
    narrowed = [f"{spec.title} {_word(spec)}" for spec in filters]
    words = ", ".join([f"id {shown.query}", *narrowed] if shown.query else narrowed)
    said = [word for spec in filters if (word := _said(spec)) is not None]
    is_search = len(said) == len(filters) and not shown.query
    searched = " ".join(said) if is_search else IN_WORDS + words
    return Choice(shown.queryset, words or "all runs", {"matching": query}, query=searched)


def read(run_admin: ReadOnlyAdmin, request: HttpRequest) -> Choice | None:
    """What a request carries; None when nothing was chosen. Raises InvalidSelection."""
    given = request.POST if request.method == "POST" else request.GET
    if "matching" in given:
        return matching(run_admin, request, given["matching"])
    keys = given.getlist("run")
    return ticked(keys) if any(keys) else None


def _word(spec: Any) -> str:
    value = spec.value()
    return str(dict(spec.lookup_choices).get(value, value))


def _said(spec: Any) -> str | None:
    """What a filter of the list asks for, in the search language; None where that has no word for it."""
    match spec.parameter_name:
        case "status" | "connection" | "model" as field:
            return search.word(field, spec.value())
        case "assistant_id":
            return search.word("assistant", spec.value())
        case "thread":
            return search.word("thread", _word(spec))
        case "created":
            return search.word("created", f">={spec.since.isoformat()}")
    return None
