"""Runs: the list, a page for each, and the page on which their metadata is edited."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.views.main import ERROR_FLAG
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from runsadmin import conf, log_context
from runsadmin.admin import changes, filters, layout, run_selection
from runsadmin.admin.base import ReadOnlyAdmin, actor, may, reporting_errors
from runsadmin.admin.change_list import NEWER, OLDER
from runsadmin.admin.id_search import find_runs
from runsadmin.admin.metadata_form import MetadataForm
from runsadmin.errors import InvalidSelection
from runsadmin.metadata import Metadata
from runsadmin.models import BulkEdit, Edit, Run, RunStatus
from runsadmin.models.run import RunQuerySet
from runsadmin.services import edits, runs
from runsadmin.services.permissions import Action
from runsadmin.templatetags import display, links

EDITS_SHOWN = 20


@admin.register(Run)
class RunAdmin(ReadOnlyAdmin):
    view_action = Action.VIEW_RUNS
    buttons = ("refresh",)
    list_template = "runsadmin/runs.html"

    keyset = ("created_at", "pk")
    list_display = ("run", "status_", "created", "took", "tokens", "used_model", "metadata_")
    list_display_links = None
    list_select_related = ("thread",)
    list_filter = (
        filters.choice("status", list(RunStatus.choices)),
        filters.CreatedFilter,
        filters.ConnectionFilter,
        filters.MissingFilter,
        filters.ThreadFilter,
        filters.ModelFilter,
        filters.AssistantFilter,
    )
    search_fields = ("upstream_id",)
    search_help_text = "Run id or its beginning, thread id, assistant id"

    def get_queryset(self, request: HttpRequest) -> RunQuerySet:
        queryset: RunQuerySet = super().get_queryset(request)
        if getattr(request.resolver_match, "url_name", "") == self.url_name("changelist"):
            return queryset.defer("raw").prefetch_related("pairs")  # Whole answers may be long.
        return queryset.select_related("thread").with_as_of()

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Run], search_term: str
    ) -> tuple[QuerySet[Run], bool]:
        return find_runs(queryset, search_term), False

    def get_list_display(self, request: HttpRequest) -> tuple[str, ...]:
        return ("tick", *self.list_display) if may(request, Action.PLAN_BULK_EDITS) else self.list_display

    @admin.display(description=SafeString('<span class="ra-hidden">Ticked</span>'))
    def tick(self, run: Run) -> SafeString:
        return format_html(
            '<label class="ra-tick"><input type="checkbox" name="run" value="{}" data-tick aria-label="Tick {}">'
            "</label>", run.pk, run,
        )  # fmt: skip

    @admin.display(description="run")
    def run(self, run: Run) -> SafeString:
        missing = SafeString('<span class="ra-badge ra-warn">missing</span>') if run.missing_since else ""
        several = format_html('<span class="ra-note">{}</span>', run.connection) if len(conf.connections()) > 1 else ""
        return format_html(
            '<a class="ra-id" href="{}">{}</a> {}{}'
            '<a class="ra-id ra-under" href="{}?thread={}" title="All runs of {}">{}</a>',
            links.change_url(run), run, several, missing, links.list_url(Run), run.thread_id, run.thread, run.thread,
        )  # fmt: skip

    @admin.display(description="status")
    def status_(self, run: Run) -> SafeString:
        return display.badge(run.status)

    @admin.display(description="created")
    def created(self, run: Run) -> SafeString:
        return display.created(run)

    @admin.display(description="took")
    def took(self, run: Run) -> str:
        return display.duration(run.duration)

    @admin.display(description="tokens")
    def tokens(self, run: Run) -> str:
        return display.number(run.total_tokens)

    @admin.display(description="model")
    def used_model(self, run: Run) -> str:
        return run.model or display.EMPTY

    @admin.display(description="metadata")
    def metadata_(self, run: Run) -> SafeString:
        stored = sorted(run.pairs.all(), key=lambda pair: pair.pk)
        return display.chips([(pair.key, pair.value) for pair in stored]) if stored else display.EMPTY

    # --- choosing runs for a bulk edit

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        response: HttpResponse = super().changelist_view(request, extra_context)
        context = getattr(response, "context_data", None)
        if context and may(request, Action.PLAN_BULK_EDITS) and context["cl"].result_list:
            query = context["cl"].get_query_string(remove=[OLDER, NEWER, ERROR_FLAG]).removeprefix("?")
            context["choosing"] = {
                "plan_url": links.list_url(BulkEdit, "add"), "count_url": links.list_url(Run, "matching"),
                "carried": urlencode({"matching": query}), "most": run_selection.MOST_TICKED, "query": query,
            }  # fmt: skip
        return response

    def matching_view(self, request: HttpRequest) -> HttpResponse:
        """The link that leads on with all that match: a part of the list that is fetched, since counting takes time."""
        if not (self.has_view_permission(request) and may(request, Action.PLAN_BULK_EDITS)):
            raise PermissionDenied
        choice = why_not = None
        try:
            choice = run_selection.matching(self, request, request.GET.get("matching", ""))
        except InvalidSelection as error:
            why_not = str(error)
        context = {"choice": choice, "why_not": why_not, "counted": run_selection.COUNTED}
        return render(request, "runsadmin/parts/matching.html", context)

    # --- the page of one run

    def page(self, request: HttpRequest, run: Run) -> HttpResponse:
        may_see_edits = may(request, Action.VIEW_EDITS)
        edits_of_it = run.edits.select_related("actor", "bulk_edit").order_by("-id")
        latest = list(edits_of_it[: EDITS_SHOWN + 1]) if may_see_edits else []
        waits = edits.waits_of(latest)
        return self.render(
            request, "runsadmin/run.html", str(run), run=run, original=run,
            task=layout.laid_out(run, layout.TASK), course=layout.laid_out(run, layout.COURSE),
            other=layout.other_fields(run),
            edits=[(edit, changes.of(edit), waits.get(edit.pk)) for edit in latest[:EDITS_SHOWN]],
            more_edits=len(latest) > EDITS_SHOWN,
            may_edit=may(request, Action.EDIT_METADATA), may_see_edits=may_see_edits, runs_url=links.list_url(Run),
            edits_url=f"{links.list_url(Edit)}?run={run.pk}",
        )  # fmt: skip

    def refresh(self, request: HttpRequest, run: Run) -> HttpResponse:
        with reporting_errors(request):
            version = runs.refresh(run=run, actor=actor(request)).version
            messages.success(request, "Read anew." if version != run.version else "Read anew: nothing has changed.")
        return redirect(links.change_url(run))

    # --- the page on which its metadata is edited

    def get_urls(self) -> list[URLPattern]:
        metadata = path("<path:object_id>/metadata/", self.view(self.metadata_view), name=self.url_name("metadata"))
        matching = path("matching/", self.view(self.matching_view), name=self.url_name("matching"))
        return [matching, metadata, *super().get_urls()]

    def metadata_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        run = self.row(request, object_id)
        if not may(request, Action.EDIT_METADATA):
            raise PermissionDenied("Editing metadata needs the permission runsadmin.change_run.")
        is_posted = request.method == "POST"
        form = MetadataForm.read(request.POST, run) if is_posted else MetadataForm.show(run)
        if is_posted and (edit := self._record(request, run, form)) is not None:
            return redirect(links.change_url(edits.push_within(edit)))
        status = 422 if form.has_errors else 200
        response = self.render(
            request, "runsadmin/metadata.html", f"Metadata of {run}", run=run, original=run, form=form
        )
        response.status_code = status
        return response

    def _record(self, request: HttpRequest, run: Run, form: MetadataForm) -> Edit | None:
        """The edit that was typed, or None: then the form tells what is wrong with it."""
        if form.has_errors:
            return None
        edit = None
        with reporting_errors(request), form.judging():
            edit = edits.record(
                run=run, patch=form.patch(), base=Metadata(form.base), actor=actor(request), source=Edit.Source.ADMIN,
                reason=form.reason, request_id=log_context.request_id(),
            )  # fmt: skip
        return edit  # noqa: RET504 - None after an error.
