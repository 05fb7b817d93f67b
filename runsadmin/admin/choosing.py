"""Which runs somebody chose in the list for a bulk edit: those that were ticked, or all that the list shows.

Ticked runs are posted as their keys. All that a list shows are never posted as keys: the list's own query string is,
and the list is asked again what it means.
"""

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property

from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models import QuerySet
from django.http import HttpRequest, QueryDict

from runsadmin.admin.base import ReadOnlyAdmin
from runsadmin.admin.find import MOST, leaves_some_out
from runsadmin.errors import InvalidSelection
from runsadmin.models import Run
from runsadmin.services.bulk_edits import Chosen, selecting

MOST_TICKED = 1_000
COUNTED = 100_000


@dataclass(frozen=True)
class Choice:
    """Runs, in words for people (empty: they were named), and the hidden fields by which a form carries them on."""

    runs: QuerySet[Run]
    words: str
    carried: Mapping[str, str]
    keys: frozenset[int] = frozenset()

    @cached_property
    def count(self) -> int:
        """How many there are now, counted no further than one beyond COUNTED."""
        return self.runs.order_by()[: COUNTED + 1].count()

    def freeze(self) -> Chosen:
        """Raises InvalidSelection, UnknownConnection."""
        chosen = selecting.every(self.runs, query=self.words)
        gone = sorted(self.keys.difference(chosen.keys))
        return replace(chosen, left_out=[(f"the run with the key {key} here", "unknown") for key in gone])


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
    narrowed = [f"{spec.title} {_word(spec)}" for spec in shown.filter_specs if spec.value()]
    words = [f"id {shown.query}", *narrowed] if shown.query else narrowed
    return Choice(shown.queryset, ", ".join(words) or "all runs", {"matching": query})


def read(run_admin: ReadOnlyAdmin, request: HttpRequest) -> Choice | None:
    """What a request carries; None when nothing was chosen. Raises InvalidSelection."""
    given = request.POST if request.method == "POST" else request.GET
    if "matching" in given:
        return matching(run_admin, request, given["matching"])
    keys = given.getlist("run")
    return ticked(keys) if any(keys) else None


def _word(spec: object) -> str:
    value = spec.value()  # type: ignore[attr-defined]
    return str(dict(spec.lookup_choices).get(value, value))  # type: ignore[attr-defined]
