"""The palette (Ctrl+K): searches for runs, with suggestions, and finds runs and threads by id."""

import time
from collections.abc import Iterator

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from unfold.dataclasses import SearchResult

from runsadmin import search
from runsadmin.admin.base import may
from runsadmin.admin.id_search import find_by_prefix, find_runs
from runsadmin.admin.run_change_list import COMPLETE
from runsadmin.errors import InvalidSearch
from runsadmin.models import Run, Thread
from runsadmin.search.completing import typed_at
from runsadmin.services.permissions import Action
from runsadmin.services.suggestions import Suggestion, suggest
from runsadmin.templatetags import display, links
from runsadmin.text import clean, is_text

MAX_IDS = 5
MAX_SUGGESTIONS = 8


def results_view(request: HttpRequest) -> HttpResponse:
    """The results for the text `s`. The theme's own view ignores case, and caches results for minutes."""
    began = time.monotonic()
    text = request.GET.get("s", "").strip()
    found = list(_found(request, text)) if text else []
    page = Paginator(found, max(len(found), 1))
    context = {
        "search_term": text,
        "page_obj": page,
        "results": page.page(1),
        "page_counter": 0,
        "execution_time": time.monotonic() - began,
    }
    return render(request, "unfold/helpers/command_results.html", context)


def _found(request: HttpRequest, text: str) -> Iterator[SearchResult]:
    if may(request, Action.VIEW_RUNS):
        yield _search(text)
    if not is_text(text):
        return
    if may(request, Action.VIEW_RUNS):
        yield from _suggestions(text)
        for run in find_runs(Run.objects.defer("raw"), text).order_by("-created_at", "-pk")[:MAX_IDS]:
            status = run.status.replace("_", " ")
            yield SearchResult(str(run), f"Run, {display.text(status)}", links.change_url(run), "play_circle")
    if may(request, Action.VIEW_THREADS):
        for thread in Thread.objects.filter(pk__in=find_by_prefix(Thread.objects.all(), text)[:MAX_IDS]):
            yield SearchResult(str(thread), "Thread", links.change_url(thread), "forum")


def _search(text: str) -> SearchResult:
    try:
        search.parse(text)
        description = "Search runs"
    except InvalidSearch as error:
        description = str(error)
    return SearchResult(display.text(text), description, links.query_url(clean(text)), "search")


def _suggestions(text: str) -> Iterator[SearchResult]:
    typed = typed_at(text, len(text))
    if typed is None:
        return
    try:
        suggestions = suggest(typed)
    except InvalidSearch:  # Finding suggestions takes too long.
        return
    for suggestion in suggestions[:MAX_SUGGESTIONS]:
        completed = text[: typed.begin] + suggestion.text
        if completed != text:
            yield SearchResult(completed, _note(suggestion), _url(completed, suggestion), "manage_search")


def _url(text: str, suggestion: Suggestion) -> str:
    """The URL that searches for the text or, if a value must follow, opens the list to complete it there."""
    return links.query_url(text, COMPLETE if suggestion.is_begin else "q")


def _note(suggestion: Suggestion) -> str:
    if suggestion.count is None:
        return suggestion.note or "Search runs"
    return f"{display.counted(suggestion.count)} run{'' if suggestion.count.count == 1 else 's'}"
