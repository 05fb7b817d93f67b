"""Syncs: what was read from upstream, what could not be read, and the progress."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString

from runsadmin.admin import filters
from runsadmin.admin.base import EVERYWHERE, ReadOnlyAdmin, actor, reporting_errors
from runsadmin.models import Sync, SyncStatus, Thread
from runsadmin.models.sync import UNFINISHED
from runsadmin.services import syncs
from runsadmin.services.permissions import Action
from runsadmin.templatetags import display, links

ERRORS_SHOWN = 200


@admin.register(Sync)
class SyncAdmin(ReadOnlyAdmin):
    view_action = Action.VIEW_SYNCS
    actions = ("pause", "resume", "cancel")
    change_list_template = "runsadmin/syncs.html"

    list_display = (display.when, display.status, "what", "threads_", "runs_", "errors_", "by")
    list_filter = (
        filters.choice("status", list(SyncStatus.choices)),
        filters.choice("kind", list(Sync.Kind.choices)),
        filters.ConnectionFilter,
        filters.ThreadFilter,
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Sync]:
        queryset: QuerySet[Sync] = super().get_queryset(request)
        return queryset.select_related("thread", "actor").defer("reading")

    def is_live(self, sync: Sync) -> bool:
        return sync.status in UNFINISHED

    @admin.display(description="what")
    def what(self, sync: Sync) -> str:
        where = str(sync.thread) if sync.thread else f"all threads of {sync.connection}"
        return f"{sync.get_kind_display()}, {where}"

    @admin.display(description="threads")
    def threads_(self, sync: Sync) -> SafeString:
        return format_html(
            '<progress class="ra-progress" value="{}" max="{}"></progress> {} of {}',
            sync.threads_done, sync.threads_total or 1, sync.threads_done, sync.threads_total,
        )  # fmt: skip

    @admin.display(description="runs")
    def runs_(self, sync: Sync) -> str:
        return f"{sync.runs_seen:,} seen, {sync.runs_created:,} new, {sync.runs_updated:,} changed"

    @admin.display(description="errors")
    def errors_(self, sync: Sync) -> str | SafeString:
        return (
            format_html('<b class="ra-error-count">{}</b>', sync.errors_count) if sync.errors_count else display.EMPTY
        )

    @admin.display(description="by")
    def by(self, sync: Sync) -> str:
        return sync.actor.get_username() if sync.actor else "schedule"

    # --- the page of one sync

    def page(self, request: HttpRequest, sync: Sync) -> HttpResponse:
        errors = sync.errors.select_related("thread").order_by("-pk")[:ERRORS_SHOWN]
        return self.render(
            request, "runsadmin/sync.html", str(sync), sync=sync, original=sync,
            is_live=self.is_live(sync), wait=syncs.wait_of(sync), errors=errors,
            **self.page_actions(request, sync, syncs.possible_actions(sync)),
        )  # fmt: skip

    @admin.action(description="Pause", permissions=["sync"], location=EVERYWHERE)
    def pause(self, request: HttpRequest, queryset: QuerySet[Sync]) -> None:
        self.for_each(request, queryset, lambda sync: syncs.pause(sync=sync, actor=actor(request)))

    @admin.action(description="Resume", permissions=["sync"], location=EVERYWHERE)
    def resume(self, request: HttpRequest, queryset: QuerySet[Sync]) -> None:
        self.for_each(request, queryset, lambda sync: syncs.resume(sync=sync, actor=actor(request)))

    @admin.action(description="Cancel", permissions=["sync"], location=EVERYWHERE)
    def cancel(self, request: HttpRequest, queryset: QuerySet[Sync]) -> None:
        self.for_each(request, queryset, lambda sync: syncs.cancel(sync=sync, actor=actor(request)))

    # --- starting one

    def get_urls(self) -> list[URLPattern]:
        return [path("start/", self.view(self.start_view), name=self.url_name("start")), *super().get_urls()]

    def start_view(self, request: HttpRequest) -> HttpResponse:
        if request.method != "POST":
            return redirect(links.list_url(Sync))
        thread_id = request.POST.get("thread", "")
        thread = Thread.objects.filter(pk=int(thread_id)).first() if thread_id.isdecimal() else None
        kind = request.POST.get("kind", "")
        if kind not in Sync.Kind.values or (thread_id and thread is None):
            messages.error(request, "Nothing was started: the thread no longer exists, or the kind is unknown.")
            return redirect(links.list_url(Sync))
        alias = thread.connection if thread else request.POST.get("connection", "")
        url = links.list_url(Sync)
        with reporting_errors(request):
            sync = syncs.start(connection=alias, kind=Sync.Kind(kind), actor=actor(request), thread=thread)
            url = links.change_url(sync)
        return redirect(url)
