"""Runs: the list, a page for each, and the metadata editor."""

from http import HTTPMethod
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path

from runsadmin import conf
from runsadmin.admin import (
    changes,
    exports,
    layout,
    list_state,
    run_position,
    run_selection,
    run_table,
    search_shortcuts,
)
from runsadmin.admin.base import (
    EVERYWHERE,
    MAX_TICKED,
    actor,
    may,
    origin,
    read_keys,
    reporting_errors,
    require,
)
from runsadmin.admin.metadata_form import MetadataForm
from runsadmin.admin.run_change_list import RunChangeList
from runsadmin.admin.run_list_parts import EXAMPLES, RunListParts
from runsadmin.errors import InvalidSearch
from runsadmin.metadata import MAX_PAIRS, Metadata
from runsadmin.models import BulkEdit, Run
from runsadmin.models.run import RunQuerySet
from runsadmin.services import bulk_edits, edits, runs
from runsadmin.services.permissions import Action
from runsadmin.services.run_search import RunSearch
from runsadmin.templatetags import display, links
from runsadmin.text import counted

EDITS_SHOWN = 20


@admin.register(Run)
class RunAdmin(RunListParts):
    view_action = Action.VIEW_RUNS
    actions = ("edit_metadata", "refresh", "export")
    actions_for_all = ("edit_metadata", "export")
    change_list_template = "runsadmin/runs.html"

    keyset = ("created_at", "pk")
    list_display_links = None
    list_select_related = ("thread",)
    search_fields = ("upstream_id",)
    search_help_text = "Search, such as status:failed metadata.team:search"

    def get_queryset(self, request: HttpRequest) -> RunQuerySet:
        queryset: RunQuerySet = super().get_queryset(request)
        if getattr(request.resolver_match, "url_name", "") == self.url_name("changelist"):
            pairs = ["pairs"] if run_table.needs_pairs(list_state.of(request)) else []
            return queryset.defer("raw").prefetch_related(*pairs)  # Whole responses may be long.
        return queryset.select_related("thread").with_as_of()

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        require(request, self.view_action)
        if query := list_state.complete_query(request):
            if request.method == HTTPMethod.POST:  # The action would apply to all runs.
                messages.error(request, "Nothing was done: the address named a view, not its search. Try again here.")
            return redirect(f"{links.list_url(Run)}?{query}")
        list_state.of(request).remember_tz()
        if request.method == HTTPMethod.GET and request.GET:
            try:
                written = search_shortcuts.written_into_search(request.GET)
            except InvalidSearch as error:
                messages.error(request, str(error))
                written = search_shortcuts.without_shortcuts(request.GET)
            if written is not None:
                return redirect(f"{links.list_url(Run)}?{written.urlencode()}")
        return super().changelist_view(request, {"search_examples": EXAMPLES, **(extra_context or {})})

    def get_search_results(
        self, request: HttpRequest, queryset: RunQuerySet, search_term: str
    ) -> tuple[RunQuerySet, bool]:
        return queryset, False  # The change list searches.

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[RunChangeList]:
        return RunChangeList

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        return run_table.columns(list_state.of(request))

    def get_sortable_by(self, request: HttpRequest) -> Any:
        return None  # All columns that name a field to sort by.

    # --- actions

    @admin.action(description="Edit metadata…", permissions=["plan_bulk_edits", "edit_metadata"], location=EVERYWHERE)
    def edit_metadata(self, request: HttpRequest, queryset: QuerySet[Run]) -> HttpResponse | None:
        """Opens the editor of one run. For several, or for all that match, freezes the selection and opens the form."""
        is_across = request.POST.get("select_across") == "1"
        keys = [] if is_across else [int(key) for key in request.POST.getlist(ACTION_CHECKBOX_NAME)]
        if len(keys) == 1 and may(request, Action.EDIT_METADATA) and (run := queryset.first()):
            return redirect(links.change_url(run, "metadata"))
        require(request, Action.PLAN_BULK_EDITS)
        if is_across:
            selection = run_selection.all_that_match(self.get_changelist_instance(request))
        else:
            selection = run_selection.ticked(queryset, keys)
        draft = bulk_edits.save_draft(selection=selection, actor=actor(request))
        return redirect(f"{links.list_url(BulkEdit, 'add')}?selection={draft.pk}")

    @admin.action(description="Refresh", permissions=["edit_metadata"], location=EVERYWHERE)
    def refresh(self, request: HttpRequest, queryset: QuerySet[Run]) -> HttpResponse | None:
        if "action" in request.POST:
            count = runs.mark_for_refresh(runs=queryset, actor=actor(request))
            messages.success(request, f"{counted(count, 'run')} will be refreshed by a worker within seconds.")
            return None
        run = queryset.select_related("thread").get()
        is_changed = runs.refresh(run=run, actor=actor(request)).version != run.version
        messages.success(request, "Refreshed." if is_changed else "Refreshed. No changes.")
        return redirect(links.change_url(run))

    @admin.action(description="Export…", permissions=["view_runs"], location=EVERYWHERE)
    def export(self, request: HttpRequest, queryset: QuerySet[Run]) -> HttpResponse:
        columns = list_state.of(request).columns
        if request.POST.get("select_across") == "1":
            return redirect(exports.form_url(run_selection.search_of(self.get_changelist_instance(request)), columns))
        keys = ",".join(map(str, queryset.values_list("pk", flat=True)))
        return exports.form_for_ticked(self.admin_site, request, keys, columns)

    def ticked_view(self, request: HttpRequest) -> HttpResponse:
        """Which of the ticked runs no longer match the search of the list."""
        require(request, self.view_action)
        keys = read_keys(request.POST.getlist("keys"))[:MAX_TICKED]
        try:
            found = RunSearch.parse(request.GET.get("q", ""), list_state.of(request).tz)
            left, gone = run_selection.no_longer_matching(found, keys)
        except InvalidSearch as error:
            return JsonResponse({"problem": str(error)}, status=400)
        return JsonResponse({"left": [{"key": pk, "run": display.text(id)} for pk, id in left], "gone": gone})

    # --- the page of one run

    def page(self, request: HttpRequest, run: Run) -> HttpResponse:
        its_edits = run.edits.select_related("actor", "bulk_edit").order_by("-id")
        latest = list(its_edits[: EDITS_SHOWN + 1])
        waits = edits.waits_of(latest)
        read_only = conf.why_read_only(run.connection)
        can_edit = may(request, Action.EDIT_METADATA) and not (read_only or run.is_purged)
        return self.render(
            request, "runsadmin/run.html", str(run), run=run, original=run,
            shown=layout.RunLayout(run),
            edits=[(edit, changes.of(edit), waits.get(edit.pk)) for edit in latest[:EDITS_SHOWN]],
            more_edits=len(latest) > EDITS_SHOWN,
            max_pairs=MAX_PAIRS,
            read_only=read_only, place=run_position.place_of(request, run),
            **self.page_actions(request, run, None if can_edit else ("export",)),
            **run_position.context(request),
        )  # fmt: skip

    def change_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return run_position.keeping(request, super().change_view(request, *args, **kwargs))

    def json_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The JSON of a run as upstream sent it, without the limits of its page."""
        return HttpResponse(self.row(request, object_id).raw, content_type="application/json")

    # --- the metadata editor

    def get_urls(self) -> list[URLPattern]:
        return [
            path("ticked/", self.view(self.ticked_view), name=self.url_name("ticked")),
            self.row_url("metadata", self.metadata_view),
            self.row_url("json", self.json_view),
            *super().get_urls(),
        ]

    def metadata_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return run_position.keeping(request, self._metadata_view(request, object_id))

    def _metadata_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        run = self.row(request, object_id)
        require(request, Action.EDIT_METADATA)
        if conf.why_read_only(run.connection):  # There is nothing to enter: the page of the run says so.
            return redirect(links.change_url(run))
        form = MetadataForm(run, request.POST if request.method == "POST" else None)
        if form.is_bound and not form.has_errors:
            with reporting_errors(request), form.showing_errors():
                edit = edits.record(
                    run=run, patch=form.patch(), base=Metadata(form.seen), reason=form.cleaned_data["reason"],
                    **origin(request),
                )  # fmt: skip
                return redirect(links.change_url(edits.push_within(edit)))
        response = self.render(
            request, "runsadmin/metadata.html", f"Metadata of {run}", run=run, original=run, form=form,
            **run_position.context(request),
        )  # fmt: skip
        response.status_code = 422 if form.has_errors else 200
        return response
