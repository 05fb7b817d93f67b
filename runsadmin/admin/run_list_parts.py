"""The parts of the run list that are fetched after the page: suggestions, the count, facets, and explanations."""

from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

from django.contrib.admin.options import IncorrectLookupParameters
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import URLPattern, path

from runsadmin import search
from runsadmin.admin import run_selection
from runsadmin.admin.base import ReadOnlyAdmin, require
from runsadmin.admin.run_change_list import FACET, RunChangeList
from runsadmin.errors import InvalidSearch
from runsadmin.search.completing import typed_at
from runsadmin.services import empty_results, facets
from runsadmin.services.suggestions import suggest

# Shown in the help of the search box.
EXAMPLES = (
    ("status:failed model:gpt-4o", "failed runs of this model"),
    ("status:(failed OR expired)", "either status"),
    ("metadata.team:search", "metadata with this pair"),
    ("-metadata.owner:*", "metadata without this key"),
    ("metadata.ticket:OPS-*", "a value that begins with this text"),
    ("created:>-7d", "created in the last seven days"),
    ("tokens:>5000 duration:>60s", "more than 5,000 tokens, and longer than a minute"),
    ('billing "cost center"', "words: beginnings of ids, models and metadata values"),
)


class RunListParts(ReadOnlyAdmin):
    def get_urls(self) -> list[URLPattern]:
        parts = {
            "suggestions": self.suggestions_view,
            "count": self.count_view,
            "facets": self.facets_view,
            "explanation": self.explanation_view,
        }
        return [
            *(path(f"{name}/", self.view(view), name=self.url_name(name)) for name, view in parts.items()),
            *super().get_urls(),
        ]

    def shown(self, request: HttpRequest) -> RunChangeList:
        """The list with the same URL parameters. Raises InvalidSearch."""
        try:
            shown: RunChangeList = self.get_changelist_instance(request)
        except IncorrectLookupParameters:
            raise InvalidSearch("There is no such page of the list. Open the list again.") from None
        return shown

    def suggestions_view(self, request: HttpRequest) -> HttpResponse:
        """Suggestions for the search `q` with the cursor after `at` characters, and what is wrong with the search."""
        require(request, self.view_action)
        text = request.GET.get("q", "")[: search.MAX_LENGTH + 1]
        at = request.GET.get("at", "")
        cursor = int(at) if at.isascii() and at.isdecimal() and len(at) < 6 else len(text)
        context: dict[str, Any] = {"typed": typed_at(text, cursor)}
        try:
            context["suggestions"] = suggest(context["typed"]) if context["typed"] else []
            search.parse(text.strip())
        except InvalidSearch as error:
            context |= {"problem": error, "place": (error.position or 1) - 1}
        return render(request, "runsadmin/parts/suggestions.html", context)

    def count_view(self, request: HttpRequest) -> HttpResponse:
        """The number of matching runs. Pages fetch it after the list, since counting takes time."""
        require(request, self.view_action)
        count = problem = None
        try:
            count = run_selection.count(self.shown(request))
        except InvalidSearch as error:
            problem = str(error)
        context = {"count": count, "problem": problem, "cap": run_selection.COUNT_CAP}
        return render(request, "runsadmin/parts/count.html", context)

    def facets_view(self, request: HttpRequest) -> HttpResponse:
        """The facets of the list, and the values of the metadata key `facet`."""
        require(request, self.view_action)
        key = request.GET.get(FACET)
        context: dict[str, Any] = {}
        try:
            shown = self.shown(request)
            shown.check_search()
            if key is not None:
                facet = facets.count_values(shown.search, key)
                return render(request, "runsadmin/parts/facet.html", {"facet": facet})
            context["facets"] = facets.count(shown.search)
        except InvalidSearch as error:
            context["problem"] = str(error)
        return render(request, "runsadmin/parts/facets.html", context)

    def explanation_view(self, request: HttpRequest) -> HttpResponse:
        """Why the list is empty."""
        require(request, self.view_action)
        context: dict[str, Any] = {"cap": run_selection.COUNT_CAP}
        with suppress(InvalidSearch):  # The list itself shows the error.
            shown = self.shown(request)
            shown.check_search()
            context["kept"] = f"&{urlencode(kept)}" if (kept := shown.kept_parameters) else ""
            context["explanation"] = empty_results.explain(shown.search)
        return render(request, "runsadmin/parts/explanation.html", context)
