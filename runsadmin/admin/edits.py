"""Edits: the list, and a page for each that shows its outcome and the possible next steps."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern
from django.utils.html import format_html
from django.utils.safestring import SafeString

from runsadmin import conf, tasks
from runsadmin.admin import changes, filters, outcome_text, run_position
from runsadmin.admin.base import EVERYWHERE, ReadOnlyAdmin, actor, origin, reporting_errors, single
from runsadmin.admin.conflict_form import ConflictForm
from runsadmin.admin.id_search import find_by_prefix
from runsadmin.engine.recurring import enqueue_unless_waiting
from runsadmin.models import Edit, EditStatus, Run
from runsadmin.models.edit import UNSETTLED
from runsadmin.services import edits
from runsadmin.services.edits import EditAction
from runsadmin.services.permissions import Action
from runsadmin.templatetags import display, links
from runsadmin.text import counted

PURGED = SafeString('<span class="ra-none">purged</span>')


@admin.register(Edit)
class EditAdmin(ReadOnlyAdmin):
    view_action = Action.VIEW_EDITS
    actions = ("undo", "retry", "release", "cancel")

    list_display = (display.when, "status_", "run_", "change", display.actor, "source", display.reason)
    list_filter = (
        filters.choice("status", list(EditStatus.choices)),
        filters.RestoredFilter,
        filters.ActorFilter,
        filters.RunFilter,
    )
    search_fields = ("run__upstream_id",)
    search_help_text = "Run id or prefix"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Edit]:
        queryset: QuerySet[Edit] = super().get_queryset(request)
        return queryset.select_related("run__thread", "actor", "undoes", "resolves", "bulk_edit").defer("run__raw")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Edit], search_term: str
    ) -> tuple[QuerySet[Edit], bool]:
        term = search_term.strip()
        return (queryset.filter(run__in=find_by_prefix(Run.objects.all(), term)) if term else queryset), False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        response: HttpResponse = super().changelist_view(request, extra_context)
        if "cl" in (context := getattr(response, "context_data", None) or {}):
            shown = context["cl"].result_list
            waits = edits.waits_of(shown)
            for edit in shown:
                edit.wait = waits.get(edit.pk)
        return response

    @admin.display(description="status")
    def status_(self, edit: Edit) -> SafeString:
        return format_html("{}{}", display.status(edit), display.wait(getattr(edit, "wait", None)))

    @admin.display(description="run")
    def run_(self, edit: Edit) -> SafeString:
        return format_html('<a class="ra-id" href="{}">{}</a>', links.change_url(edit.run), edit.run)

    @admin.display(description="change")
    def change(self, edit: Edit) -> SafeString:
        if edit.is_purged:
            return PURGED
        chips = display.diff_chips(changes.of(edit))
        return format_html('<div class="ra-not-made">{}</div>', chips) if changes.is_not_made(edit) else chips

    # --- the page of one edit

    def page(self, request: HttpRequest, edit: Edit, conflict_form: ConflictForm | None = None) -> HttpResponse:
        followers = Edit.objects.select_related("actor")
        resolved_by = followers.filter(resolves=edit).order_by("pk")
        permitted = edits.permitted_actions(edit, actor(request))
        if EditAction.RESOLVE in permitted and conflict_form is None and not resolved_by:
            conflict_form = ConflictForm(edit)
        undoing = changes.undoing(edit) if EditAction.UNDO in permitted else None
        return self.render(
            request, "runsadmin/edit.html", f"Edit {edit.pk}", edit=edit, original=edit,
            outcome=outcome_text.of(edit), wait=edits.waits_of([edit]).get(edit.pk), is_live=edit.status in UNSETTLED,
            changes=changes.of(edit), is_not_made=changes.is_not_made(edit),
            conflict_form=conflict_form, resolved_by=resolved_by, read_only=conf.why_read_only(edit.run.connection),
            undone_by=followers.filter(undoes=edit).order_by("pk"), undoing=undoing,
            **self.page_actions(request, edit, permitted - {EditAction.UNDO}), **run_position.context(request),
        )  # fmt: skip

    @admin.action(description="Undo", permissions=["edit_metadata"], location=EVERYWHERE)
    def undo(self, request: HttpRequest, queryset: QuerySet[Edit]) -> HttpResponse | None:
        explanation = "Changed keys get their old values back. A key that was changed since then is left as it is."
        if page := self.confirm(request, queryset, "Undo", explanation, reason="optional"):
            return page
        new = self.for_each(request, queryset, lambda edit: edits.undo(
            edit=edit, reason=request.POST.get("reason", "").strip(), **origin(request),
        ))  # fmt: skip
        return self._push(request, queryset, new, "Undo recorded for")

    @admin.action(description="Retry", permissions=["edit_metadata"], location=EVERYWHERE)
    def retry(self, request: HttpRequest, queryset: QuerySet[Edit]) -> HttpResponse | None:
        if page := self.confirm(request, queryset, "Retry", "This sends the change upstream again."):
            return page
        retried = self.for_each(request, queryset, lambda edit: edits.retry(edit=edit, actor=actor(request)))
        return self._push(request, queryset, retried, "Retrying")

    @admin.action(description="Release", permissions=["edit_metadata"], location=EVERYWHERE)
    def release(self, request: HttpRequest, queryset: QuerySet[Edit]) -> HttpResponse | None:
        explanation = (
            "These edits come from a backup that was restored. They are sent once their connection is released. A "
            "value that is newer upstream is not overwritten: the edit ends in a conflict."
        )
        if page := self.confirm(request, queryset, "Release", explanation):
            return page
        released = self.for_each(request, queryset, lambda edit: edits.release(edit=edit, actor=actor(request)))
        return self._push(request, queryset, released, "Released")

    @admin.action(description="Cancel", permissions=["edit_metadata"], location=EVERYWHERE)
    def cancel(self, request: HttpRequest, queryset: QuerySet[Edit]) -> None:
        cancelled = self.for_each(request, queryset, lambda edit: edits.cancel(edit=edit, actor=actor(request)))
        if cancelled:
            messages.success(request, f"Cancelled {counted(len(cancelled), 'edit')}.")

    def _push(self, request: HttpRequest, queryset: QuerySet[Edit], new: list[Edit], done: str) -> HttpResponse | None:
        """Pushes a single edit now, so that its page shows the outcome. Workers push several edits."""
        if edit := single(new, queryset):
            return redirect(links.change_url(edits.push_within(edit)))
        if new:
            enqueue_unless_waiting(tasks.push_edits)
            messages.success(request, f"{done} {counted(len(new), 'edit')}. Sending continues in the background.")
        return None

    # --- a conflict

    def get_urls(self) -> list[URLPattern]:
        return [self.row_url("resolve", self.resolve_view), *super().get_urls()]

    def change_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return run_position.keeping(request, super().change_view(request, *args, **kwargs))

    def resolve_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return run_position.keeping(request, self._resolve_view(request, object_id))

    def _resolve_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        edit = self.row(request, object_id)
        if request.method != "POST":
            return redirect(links.change_url(edit))
        form = ConflictForm(edit, request.POST)
        if form.is_valid():
            with reporting_errors(request), form.showing_errors():
                patch = form.patch()
                if form.choices and not patch:
                    messages.info(request, "Nothing to send: upstream keeps its values.")
                else:
                    reason = form.cleaned_data["reason"]
                    new = edits.resolve(edit=edit, patch=patch, reason=reason, **origin(request))
                    edit = edits.push_within(new)
        if form.is_valid():  # The service may have added errors to the form.
            return redirect(links.change_url(edit))
        response = self.page(request, edit, form)
        response.status_code = 422
        return response
