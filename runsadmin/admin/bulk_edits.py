"""Bulk edits: the planning form, the list, and a page for each with its plan and progress."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern
from django.utils.safestring import SafeString

from runsadmin import conf, tasks
from runsadmin.admin import change_list, changes, csv_export, filters, id_search, outcome_text
from runsadmin.admin.base import EVERYWHERE, ReadOnlyAdmin, actor, origin, reporting_errors, require
from runsadmin.admin.bulk_patch_form import BulkPatchForm
from runsadmin.errors import InvalidSelection, ReadOnlyConnection, UnknownConnection
from runsadmin.models import BulkEdit, BulkEditStatus, Edit, EditStatus, Run
from runsadmin.models.edit import IN_FLIGHT, EditQuerySet
from runsadmin.services import bulk_edits, connections
from runsadmin.services.bulk_edits import BulkEditAction
from runsadmin.services.edits import waits_of
from runsadmin.services.permissions import Action
from runsadmin.templatetags import display, links
from runsadmin.text import counted

EDITS_SHOWN = 50
NOT_SELECTED_SHOWN = 200


@admin.register(BulkEdit)
class BulkEditAdmin(ReadOnlyAdmin):
    view_action = Action.VIEW_BULK_EDITS
    actions = ("apply", "pause", "resume", "cancel", "retry", "undo")
    change_list_template = "runsadmin/bulk_edits.html"

    list_display = (display.when, display.status, "what", "runs_", display.actor, display.reason)
    list_filter = (
        filters.choice("status", list(BulkEditStatus.choices)),
        filters.ActorFilter,
        filters.ConnectionFilter,
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[BulkEdit]:
        queryset: QuerySet[BulkEdit] = super().get_queryset(request)
        return queryset.select_related("actor", "applied_by", "undoes")

    def is_live(self, bulk_edit: BulkEdit) -> bool:
        return bulk_edit.status == BulkEditStatus.PLANNING or bulk_edit.is_in_progress

    @admin.display(description="what")
    def what(self, bulk_edit: BulkEdit) -> SafeString:
        return display.patch_chips(bulk_edit)

    @admin.display(description="runs")
    def runs_(self, bulk_edit: BulkEdit) -> str:
        return f"{bulk_edit.selected:,}"

    # --- planning one

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        require(request, Action.PLAN_BULK_EDITS)
        require(request, Action.VIEW_RUNS)
        draft = request.GET.get("selection", "")
        try:
            selection = bulk_edits.read_draft(pk=draft, actor=actor(request))
        except (InvalidSelection, UnknownConnection, ReadOnlyConnection) as error:
            messages.error(request, str(error) if draft else "Select runs first, or choose “All that match”.")
            return redirect(links.list_url(Run))
        form = BulkPatchForm(request.POST if request.method == "POST" else None)
        if form.is_bound and not form.has_errors:
            with reporting_errors(request), form.showing_errors():
                bulk_edit = bulk_edits.plan(
                    selection=selection, patch=form.patch, reason=form.cleaned_data["reason"],
                    canary=form.cleaned_data["canary"], wait_for_active=form.wait_for_active, **origin(request),
                )  # fmt: skip
                return redirect(links.change_url(tasks.plan_and_enqueue(bulk_edit)))
        response = self.render(
            request, "runsadmin/patch.html", "Edit the metadata of many runs", selection=selection, form=form,
            observed_keys=id_search.observed_keys(),
        )  # fmt: skip
        response.status_code = 422 if form.has_errors else 200
        return response

    # --- the page of one bulk edit

    def page(self, request: HttpRequest, bulk_edit: BulkEdit) -> HttpResponse:
        progress = bulk_edits.progress(bulk_edit)
        shown = EditFilter.read(request)
        edits = change_list.in_order(
            shown.of(bulk_edit).select_related("run").defer("run__raw"), request.GET, EDITS_SHOWN
        )  # fmt: skip
        waits = waits_of(edits.rows)
        sent = {status: count for status, count in progress.statuses.items() if status != EditStatus.SKIPPED}
        in_flight = progress.count(*IN_FLIGHT)
        return self.render(
            request, "runsadmin/bulk_edit.html", str(bulk_edit).capitalize(), bulk_edit=bulk_edit, original=bulk_edit,
            progress=progress, outcome=outcome_text.of_bulk(bulk_edit, progress), in_flight=in_flight,
            is_live=self.is_live(bulk_edit) or in_flight > 0,
            has_canary=bulk_edit.canary is not None and bulk_edit.canary < progress.total,
            skipped=progress.count(EditStatus.SKIPPED), changed_since=bulk_edits.changed_since(bulk_edit),
            plan_results=shown.tiles("plan_result", Edit.PlanResult, progress.plan_results),
            statuses=shown.tiles("status", EditStatus, sent) if bulk_edit.applied_at else (),
            shown=shown,
            edits=[(edit, changes.of_planned(edit), waits.get(edit.pk)) for edit in edits.rows],
            wait_reason=bulk_edits.waiting_in_words(bulk_edit) if bulk_edit.is_in_progress else "",
            earlier=edits.previous, later=edits.next,
            not_selected=bulk_edit.not_selected[:NOT_SELECTED_SHOWN],
            read_only=conf.why_read_only(bulk_edit.connection),
            waits_for_connection=bulk_edit.is_in_progress and connections.is_held(bulk_edit.connection),
            purged_before=bulk_edit.selected - sum(progress.statuses.values()) if bulk_edit.planned_at else 0,
            undone_by=bulk_edit.undone_by.select_related("actor").order_by("pk"),
            **self._offered(request, bulk_edit, progress),
        )  # fmt: skip

    @admin.action(description="Apply", permissions=["apply_bulk_edits"], location=EVERYWHERE)
    def apply(self, request: HttpRequest, queryset: QuerySet[BulkEdit]) -> HttpResponse | None:
        count = _count(queryset, "run", EditStatus.PLANNED)
        return self._call(request, queryset, bulk_edits.apply, f"This changes the metadata of {count} upstream.")

    @admin.action(description="Pause", permissions=["apply_bulk_edits"], location=EVERYWHERE)
    def pause(self, request: HttpRequest, queryset: QuerySet[BulkEdit]) -> HttpResponse | None:
        return self._call(request, queryset, bulk_edits.pause)

    @admin.action(description="Resume", permissions=["apply_bulk_edits"], location=EVERYWHERE)
    def resume(self, request: HttpRequest, queryset: QuerySet[BulkEdit]) -> HttpResponse | None:
        count = _count(queryset, "edit", EditStatus.PENDING)
        return self._call(request, queryset, bulk_edits.resume, f"This sends the remaining {count}.")

    @admin.action(description="Cancel", permissions=["apply_bulk_edits", "plan_bulk_edits"], location=EVERYWHERE)
    def cancel(self, request: HttpRequest, queryset: QuerySet[BulkEdit]) -> HttpResponse | None:
        explanation = "Nothing more is sent. Changed runs stay changed: undo the bulk edit to change them back."
        return self._call(request, queryset, bulk_edits.cancel, explanation)

    @admin.action(description="Retry", permissions=["apply_bulk_edits"], location=EVERYWHERE)
    def retry(self, request: HttpRequest, queryset: QuerySet[BulkEdit]) -> HttpResponse | None:
        count = _count(queryset, "edit", EditStatus.FAILED)
        return self._call(request, queryset, bulk_edits.retry, f"This sends {count} again.")

    @admin.action(description="Undo", permissions=["plan_bulk_edits"], location=EVERYWHERE)
    def undo(self, request: HttpRequest, queryset: QuerySet[BulkEdit]) -> HttpResponse | None:
        count = _count(queryset, "run", EditStatus.APPLIED, EditStatus.DIFFERS)
        explanation = f"This creates a plan that changes {count} back. Nothing is sent until you apply the plan."
        if page := self.confirm(request, queryset, "Undo", explanation, reason="required"):
            return page
        undoing = self.for_each(request, queryset, lambda bulk_edit: tasks.plan_and_enqueue(bulk_edits.plan_undo(
            bulk_edit=bulk_edit, reason=request.POST.get("reason", "").strip(), **origin(request),
        )))  # fmt: skip
        return redirect(links.change_url(undoing[0])) if len(undoing) == 1 else None

    def _call(
        self, request: HttpRequest, queryset: QuerySet[BulkEdit], service: Callable[..., BulkEdit], warning: str = ""
    ) -> HttpResponse | None:
        """Calls the service for each bulk edit. A warning must be confirmed first."""
        if warning and (page := self.confirm(request, queryset, service.__name__.capitalize(), warning)):
            return page
        changed = self.for_each(request, queryset, lambda row: service(bulk_edit=row, actor=actor(request)))
        for bulk_edit in changed:
            tasks.enqueue_if_in_progress(bulk_edit)
        if len(changed) > 1:
            messages.success(request, f"Done for {counted(len(changed), 'bulk edit')}.")
        return None

    def _offered(self, request: HttpRequest, bulk_edit: BulkEdit, progress: bulk_edits.Progress) -> dict[str, Any]:
        """The context of the buttons: the actions that the user may take, and why a plan cannot be applied."""
        possible = bulk_edits.possible_actions(bulk_edit, counts=progress)
        permitted = bulk_edits.permitted_actions(bulk_edit, actor(request), counts=progress)
        may_discard = BulkEditAction.CANCEL in permitted and not bulk_edit.applied_at
        own_forms = {BulkEditAction.APPLY, BulkEditAction.UNDO} | ({BulkEditAction.CANCEL} if may_discard else set())
        return self.page_actions(request, bulk_edit, permitted - own_forms) | {
            "may_apply": BulkEditAction.APPLY in permitted,
            "may_discard": may_discard,
            "may_undo": BulkEditAction.UNDO in permitted,
            "is_expired": bulk_edits.is_expired(bulk_edit),
            "lacks_permission": BulkEditAction.APPLY in possible - permitted,
        }

    # --- as CSV

    def get_urls(self) -> list[URLPattern]:
        return [self.row_url("csv", self.csv_view), *super().get_urls()]

    def csv_view(self, request: HttpRequest, object_id: str) -> StreamingHttpResponse:
        bulk_edit = self.row(request, object_id)
        edits = EditFilter.read(request).of(bulk_edit)
        lines = csv_export.edits(edits, with_bom=request.GET.get("bom") == "1")
        return csv_export.response(lines, f"bulk-edit-{bulk_edit.pk}.csv")


@dataclass(frozen=True)
class EditFilter:
    """Which edits of a bulk edit are shown: all, those with one status, or those with one plan result."""

    name: str = ""
    value: str = ""
    label: str = ""

    @classmethod
    def read(cls, request: HttpRequest) -> "EditFilter":
        """Reads the filter from the URL. An unknown value means all edits."""
        choices = {"status": EditStatus, "plan_result": Edit.PlanResult}
        for name, known in choices.items():
            if (value := request.GET.get(name)) in known.values:
                return cls(name, str(value), str(known(value).label).lower())
        return cls()

    def of(self, bulk_edit: BulkEdit) -> EditQuerySet:
        edits: EditQuerySet = bulk_edit.edits.all()
        return edits.filter(**{self.name: self.value}) if self.name else edits

    def tiles(self, name: str, known: Any, counts: dict[str, int]) -> list[dict[str, object]]:
        """Counts that link to the edits they count, for the template `parts/tiles.html`."""
        return [
            {
                "value": value, "label": label, "count": counts[value], "url": f"?{name}={value}#edits",
                "is_shown": (name, value) == (self.name, self.value),
            }
            for value, label in known.choices
            if counts.get(value)
        ]  # fmt: skip


def _count(queryset: QuerySet[BulkEdit], noun: str, *statuses: EditStatus) -> str:
    return counted(Edit.objects.filter(bulk_edit__in=queryset.values("pk"), status__in=statuses).count(), noun)
