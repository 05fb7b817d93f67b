"""Filters below the search box of the run list. Each writes a term into the search.

A URL such as `?status=failed` redirects to `?q=status:failed`, so that a search is always completely in `q`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from django.http import QueryDict

from runsadmin import conf, search
from runsadmin.admin.change_list import NEWER, OLDER
from runsadmin.errors import InvalidSearch
from runsadmin.models import RunStatus
from runsadmin.search import Between, Compare, Equal, Exists, Node
from runsadmin.search.rewriting import clauses_of, with_clauses_of

# What a select shows if the search tests its field in a way that is not among its options.
OTHER = "other"
SINCE, UNTIL = "since", "until"
_LOCAL_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d)?")
PAGES = (NEWER, OLDER)
_TIMES = {"hour": ("Last hour", "-1h"), "day": ("Last 24 hours", "-24h"), "week": ("Last 7 days", "-7d"),
          "month": ("Last 30 days", "-30d"), "year": ("Last 365 days", "-365d")}  # fmt: skip


@dataclass(frozen=True)
class Option:
    """A choice of a select, and the test that it writes into the search."""

    value: str
    label: str
    test: search.Test


@dataclass(frozen=True)
class Shortcut:
    """A select. Its `name` is also its URL parameter."""

    name: str
    title: str
    field: str
    options: Sequence[Option]

    def selected(self, node: Node | None) -> str:
        """The value of the option that the search uses, OTHER if it tests the field in another way, otherwise empty."""
        present = clauses_of(node, self.field)
        for option in self.options:
            if present == [search.term(self.field, option.test)]:
                return option.value
        return OTHER if present else ""

    def apply(self, node: Node | None, value: str) -> Node | None:
        """The search with this option instead of the present one. Raises InvalidSearch for an unknown option."""
        if value in (OTHER, self.selected(node)):
            return node
        tests = [option.test for option in self.options if option.value == value]
        if value and not tests:
            raise InvalidSearch(f"There is no {self.title} {value[:60]!r}. Choose one of the options.")
        return with_clauses_of(node, self.field, [search.term(self.field, test) for test in tests])


def shortcuts() -> list[Shortcut]:
    """All shortcuts, whether they are shown or not."""
    aliases = list(conf.connections())
    return [
        Shortcut("status", "status", "status", [Option(*choice, Equal(choice[0])) for choice in RunStatus.choices]),
        Shortcut(
            "created", "time", "created",
            [Option(name, label, Compare(">", since)) for name, (label, since) in _TIMES.items()],
        ),
        Shortcut("missing", "state", "missing", [Option("yes", "Missing upstream", Exists())]),
        Shortcut("connection", "connection", "connection", [Option(alias, alias, Equal(alias)) for alias in aliases]),
    ]  # fmt: skip


def period(node: Node | None) -> tuple[str, str]:
    """The limits of the creation time in a search, as date fields have them. Empty if the search has no such limit."""
    limits: tuple[str, str] = "", ""
    match clauses_of(node, "created"):
        case [search.Term(_, Between(low, high))]:
            limits = low or "", high or ""
        case [search.Term(_, Compare(">=", low))]:
            limits = low, ""
        case [search.Term(_, Compare("<=", high))]:
            limits = "", high
    return limits if all(_LOCAL_TIME.fullmatch(limit) for limit in limits if limit) else ("", "")


def written_into_search(parameters: QueryDict) -> QueryDict | None:
    """The parameters of a URL after its shortcuts were written into the search. None if it has no shortcuts.

    Raises InvalidSearch.
    """
    known = {each.name: each for each in shortcuts()}
    names = [name for name in (*known, SINCE, UNTIL) if name in parameters]
    if not names:
        return None
    rewritten = without_shortcuts(parameters)
    node = search.parse(parameters.get("q", "").strip())
    for name in names:
        if name in known:
            node = known[name].apply(node, str(parameters[name]))
    if SINCE in names or UNTIL in names:
        node = _within(node, parameters.get(SINCE, ""), parameters.get(UNTIL, ""))
    rewritten["q"] = str(node or "")
    return rewritten


def without_shortcuts(parameters: QueryDict) -> QueryDict:
    """The parameters of a URL without its shortcuts and its place in the list."""
    left = parameters.copy()
    for name in (*(each.name for each in shortcuts()), SINCE, UNTIL, *PAGES):
        left.pop(name, None)
    return left


def _within(node: Node | None, since: str, until: str) -> Node | None:
    """The search with this period instead of the present one. Raises InvalidSearch."""
    if (since, until) == period(node):
        return node
    tests: list[search.Test] = []
    if since and until:
        tests = [Between(since, until)]
    elif since or until:
        tests = [Compare(">=", since) if since else Compare("<=", until)]
    try:
        return with_clauses_of(node, "created", [search.term("created", test) for test in tests])
    except ValueError as error:
        raise InvalidSearch(f"Time range: {error}") from None
