"""Runs: the list, a page for each, and the metadata editor."""

from collections.abc import Iterable
from http import HTTPMethod
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern
from django.utils.html import format_html
from django.utils.safestring import SafeString

from runsadmin import conf
from runsadmin.admin import changes, csv_export, layout, run_selection, search_shortcuts
from runsadmin.admin.base import EVERYWHERE, actor, may, origin, reporting_errors, require
from runsadmin.admin.metadata_form import MetadataForm
from runsadmin.admin.run_change_list import RunChangeList
from runsadmin.admin.run_list_parts import EXAMPLES, RunListParts
from runsadmin.errors import InvalidSearch
from runsadmin.metadata import MAX_PAIRS, Metadata
from runsadmin.models import BulkEdit, Run
from runsadmin.models.run import RunQuerySet
from runsadmin.services import bulk_edits, edits, runs
from runsadmin.services.permissions import Action
from runsadmin.templatetags import display, links
from runsadmin.text import counted

EDITS_SHOWN = 20


@admin.register(Run)
class RunAdmin(RunListParts):
    view_action = Action.VIEW_RUNS
    actions = ("edit_metadata", "refresh", "download_csv")
    actions_for_all = ("edit_metadata", "download_csv")
    change_list_template = "runsadmin/runs.html"

    keyset = ("created_at", "pk")
    list_display = ("run", display.status, display.created, "duration_", "tokens", "model_", "metadata_")
    list_display_links = None
    sortable_by = (display.created, "duration_", "tokens")
    list_select_related = ("thread",)
    search_fields = ("upstream_id",)
    search_help_text = "Search, such as status:failed metadata.team:search"

    def get_queryset(self, request: HttpRequest) -> RunQuerySet:
        queryset: RunQuerySet = super().get_queryset(request)
        if getattr(request.resolver_match, "url_name", "") == self.url_name("changelist"):
            return queryset.defer("raw").prefetch_related("pairs")  # Whole responses may be long.
        return queryset.select_related("thread").with_as_of()

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if request.method == HTTPMethod.GET and request.GET:
            try:
                written = search_shortcuts.written_into_search(request.GET)
            except InvalidSearch as error:
                messages.error(request, str(error))
                written = search_shortcuts.without_shortcuts(request.GET)
            if written is not None:
                return HttpResponseRedirect(f"?{written.urlencode()}")
        return super().changelist_view(request, {"search_examples": EXAMPLES, **(extra_context or {})})

    def get_search_results(
        self, request: HttpRequest, queryset: RunQuerySet, search_term: str
    ) -> tuple[RunQuerySet, bool]:
        return queryset, False  # The change list searches.

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[RunChangeList]:
        return RunChangeList

    @admin.display(description="run")
    def run(self, run: Run) -> SafeString:
        missing = SafeString('<span class="ra-badge ra-warn">Missing</span>') if run.missing_since else ""
        return format_html(  # Relative links: reversing URLs in each row took 8% of the page's time.
            '<a class="ra-id" href="{}/change/">{}</a> {}{}'
            '<a data-term class="ra-id ra-under" href="{}" title="All runs of {thread}">{thread}</a>',
            run.pk, run, display.connection(run), missing, links.value_url("thread", str(run.thread)),
            thread=run.thread,
        )  # fmt: skip

    @admin.display(description="duration", ordering="duration")
    def duration_(self, run: Run) -> str:
        return display.duration(run.duration)

    @admin.display(description="tokens", ordering="total_tokens")
    def tokens(self, run: Run) -> str:
        return display.number(run.total_tokens)

    @admin.display(description="model")
    def model_(self, run: Run) -> str:
        return display.model(run)

    @admin.display(description="metadata")
    def metadata_(self, run: Run) -> SafeString:
        stored = sorted(run.pairs.all(), key=lambda pair: pair.pk)
        return display.chips([(pair.key, pair.value) for pair in stored]) if stored else display.EMPTY

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

    @admin.action(description="Download as CSV", permissions=["view_runs"], location=EVERYWHERE)
    def download_csv(self, request: HttpRequest, queryset: QuerySet[Run]) -> StreamingHttpResponse:
        if request.POST.get("select_across") == "1":
            keys: Iterable[int] = run_selection.keys_that_match(self.get_changelist_instance(request))
        else:
            keys = queryset.order_by("pk").values_list("pk", flat=True)
        return csv_export.response(csv_export.runs(keys), "runs.csv")

    # --- the page of one run

    def page(self, request: HttpRequest, run: Run) -> HttpResponse:
        its_edits = run.edits.select_related("actor", "bulk_edit").order_by("-id")
        latest = list(its_edits[: EDITS_SHOWN + 1])
        waits = edits.waits_of(latest)
        is_archived = run.connection in conf.archives()
        can_edit = may(request, Action.EDIT_METADATA) and not is_archived
        return self.render(
            request, "runsadmin/run.html", str(run), run=run, original=run,
            task=layout.laid_out(run, layout.TASK), details=layout.laid_out(run, layout.DETAILS),
            other=layout.other_fields(run),
            edits=[(edit, changes.of(edit), waits.get(edit.pk)) for edit in latest[:EDITS_SHOWN]],
            more_edits=len(latest) > EDITS_SHOWN,
            max_pairs=MAX_PAIRS,
            is_archived=is_archived,
            **self.page_actions(request, run, None if can_edit else ("download_csv",)),
        )  # fmt: skip

    # --- the metadata editor

    def get_urls(self) -> list[URLPattern]:
        return [self.row_url("metadata", self.metadata_view), *super().get_urls()]

    def metadata_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        run = self.row(request, object_id)
        require(request, Action.EDIT_METADATA)
        if run.connection in conf.archives():  # There is nothing to enter: the page of the run says so.
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
            request, "runsadmin/metadata.html", f"Metadata of {run}", run=run, original=run, form=form
        )
        response.status_code = 422 if form.has_errors else 200
        return response
