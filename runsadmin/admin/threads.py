"""Threads: which ones are mirrored, and when each was last read."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.html import format_html
from django.utils.safestring import SafeString

from runsadmin import conf, id_lists
from runsadmin.admin import filters
from runsadmin.admin.base import EVERYWHERE, ReadOnlyAdmin, actor, may, reporting_errors, require, single
from runsadmin.admin.id_search import find_by_prefix
from runsadmin.admin.row_forms import TypedText
from runsadmin.models import Run, Sync, Thread
from runsadmin.services import syncs, threads
from runsadmin.services.permissions import Action
from runsadmin.templatetags import display, links
from runsadmin.text import counted

# How many ids are shown at most for each result.
IDS_SHOWN = 200


class TrackForm(forms.Form):
    connection = forms.CharField()
    thread_ids = TypedText(
        required=False, widget=forms.Textarea({"rows": 8, "spellcheck": "false", "placeholder": "thread_abc123"})
    )
    file = forms.FileField(
        required=False, widget=forms.FileInput({"accept": ".txt,.csv,.tsv,text/plain,text/csv"}), allow_empty_file=True
    )

    def clean(self) -> dict[str, Any]:
        """Raises InvalidList."""
        file = self.cleaned_data.pop("file", None)
        thread_ids = id_lists.read(self.cleaned_data["thread_ids"], "thread")
        thread_ids += id_lists.read(file.read(), "thread") if file else []
        if not thread_ids:
            self.add_error("thread_ids", "Enter at least one thread id, or choose a file.")
        return self.cleaned_data | {"thread_ids": thread_ids}


@admin.register(Thread)
class ThreadAdmin(ReadOnlyAdmin):
    view_action = Action.VIEW_THREADS
    actions = ("sync_new_runs", "full_sync", "stop_tracking", "track_again")
    change_list_template = "runsadmin/threads.html"

    keyset = ("created_at", "pk")
    list_display = ("thread", "tracked_", "checked", "fully_checked", "added", "runs_")
    list_display_links = None
    list_filter = (
        filters.choice("tracked", [("True", "Tracked"), ("False", "Not tracked")], title="tracking"),
        filters.ConnectionFilter,
        filters.MissingFilter,
    )
    search_fields = ("upstream_id",)
    search_help_text = "Thread id or prefix"

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return may(request, Action.TRACK_THREADS)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Thread], search_term: str
    ) -> tuple[QuerySet[Thread], bool]:
        term = search_term.strip()
        return (queryset.filter(pk__in=find_by_prefix(Thread.objects.all(), term)) if term else queryset), False

    @admin.display(description="thread")
    def thread(self, thread: Thread) -> SafeString:
        return format_html(
            '<a class="ra-id" href="{}">{}</a>{}', links.change_url(thread), thread, display.connection(thread)
        )

    @admin.display(description="state")
    def tracked_(self, thread: Thread) -> SafeString:
        if thread.missing_since:
            return display.badge("incomplete", "missing upstream")
        return display.badge("completed", "tracked") if thread.tracked else display.badge("", "not tracked")

    @admin.display(description="last synced")
    def checked(self, thread: Thread) -> SafeString:
        return display.short_moment(thread.checked_at)

    @admin.display(description="last full sync")
    def fully_checked(self, thread: Thread) -> SafeString:
        return display.short_moment(thread.fully_checked_at)

    @admin.display(description="added")
    def added(self, thread: Thread) -> SafeString:
        return display.short_moment(thread.created_at)

    @admin.display(description="runs")
    def runs_(self, thread: Thread) -> SafeString:
        return format_html('<a href="{}">Show</a>', links.runs_of_thread(thread))

    # --- the page of one thread

    def page(self, request: HttpRequest, thread: Thread) -> HttpResponse:
        read_only = conf.why_read_only(thread.connection)
        tracking = "stop_tracking" if thread.tracked else "track_again"
        return self.render(
            request, "runsadmin/thread.html", str(thread), thread=thread, original=thread,
            runs=Run.objects.defer("raw").filter(thread=thread).order_by("-created_at", "-pk")[:10],
            syncs=thread.syncs.order_by("-pk")[:5],
            read_only=read_only,
            **self.page_actions(request, thread, () if read_only else ("sync_new_runs", "full_sync", tracking)),
        )  # fmt: skip

    @admin.action(description="Sync new runs", permissions=["sync"], location=EVERYWHERE)
    def sync_new_runs(self, request: HttpRequest, queryset: QuerySet[Thread]) -> HttpResponse | None:
        return self._start(request, queryset, Sync.Kind.INCREMENTAL)

    @admin.action(description="Full sync", permissions=["sync"], location=EVERYWHERE)
    def full_sync(self, request: HttpRequest, queryset: QuerySet[Thread]) -> HttpResponse | None:
        return self._start(request, queryset, Sync.Kind.FULL)

    def _start(self, request: HttpRequest, queryset: QuerySet[Thread], kind: Sync.Kind) -> HttpResponse | None:
        started = self.for_each(request, queryset, lambda thread: syncs.start(
            connection=thread.connection, kind=kind, actor=actor(request), thread=thread
        ))  # fmt: skip
        if sync := single(started, queryset):
            return redirect(links.change_url(sync))
        if started:
            messages.success(request, f"Queued {counted(len(started), 'sync')} for the workers.")
        return redirect(links.list_url(Sync))

    @admin.action(description="Stop tracking", permissions=["untrack_threads"], location=EVERYWHERE)
    def stop_tracking(self, request: HttpRequest, queryset: QuerySet[Thread]) -> HttpResponse | None:
        explanation = "Syncs will no longer read these threads. Mirrored runs are kept and can still be edited."
        if page := self.confirm(request, queryset, "Stop tracking", explanation):
            return page
        self.for_each(request, queryset, lambda thread: threads.untrack(thread=thread, actor=actor(request)))
        messages.success(request, f"Stopped tracking {counted(len(queryset), 'thread')}. Mirrored runs are kept.")
        return None

    @admin.action(description="Track again", permissions=["track_threads"], location=EVERYWHERE)
    def track_again(self, request: HttpRequest, queryset: QuerySet[Thread]) -> None:
        self.for_each(request, queryset, lambda thread: threads.track(
            connection=thread.connection, thread_ids=[thread.upstream_id], actor=actor(request)
        ))  # fmt: skip
        messages.success(request, f"Tracking {counted(len(queryset), 'thread')} again.")

    # --- tracking threads

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        require(request, Action.TRACK_THREADS)
        is_posted = request.method == "POST"
        form = TrackForm(request.POST if is_posted else None, request.FILES if is_posted else None)
        tracked = None
        with reporting_errors(request):
            if form.is_valid():
                tracked = threads.track(**form.cleaned_data, actor=actor(request))
                form = TrackForm(initial={"thread_ids": "\n".join(tracked.invalid[:IDS_SHOWN])})
        context = {"tracked": tracked, "form": form, "shown": IDS_SHOWN}
        return self.render(request, "runsadmin/track.html", "Track threads", **context)
