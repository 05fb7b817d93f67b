"""Exports: the form that starts one, one's own exports, and the files that workers wrote."""

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import FileResponse, HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import URLPattern
from django.utils.html import format_html
from django.utils.safestring import SafeString

from runsadmin import search
from runsadmin.admin import filters
from runsadmin.admin.base import EVERYWHERE, MAX_TICKED, ReadOnlyAdmin, actor, origin, reporting_errors, require
from runsadmin.admin.row_forms import TypedText
from runsadmin.errors import FormatUnavailable, InvalidColumns, InvalidSearch, TooManyExports
from runsadmin.models import Export, ExportFormat, ExportStatus
from runsadmin.models.export import UNFINISHED
from runsadmin.services import exports, run_columns
from runsadmin.services.exports import CONTENT_TYPES, NewExport
from runsadmin.services.permissions import Action
from runsadmin.services.run_columns import Column
from runsadmin.services.run_search import RunSearch
from runsadmin.templatetags import display, links

_KEYS = rf"\A[0-9]{{1,18}}(,[0-9]{{1,18}}){{0,{MAX_TICKED - 1}}}\Z"


class ExportForm(forms.Form):
    """`keys` has the primary keys of ticked runs. Without them, all runs that match `q` are exported."""

    q = TypedText(required=False, widget=forms.HiddenInput)
    tz = forms.CharField(required=False, widget=forms.HiddenInput)
    keys = forms.RegexField(_KEYS, required=False, widget=forms.HiddenInput)
    format = forms.ChoiceField(choices=ExportFormat.choices, initial=ExportFormat.CSV)
    columns = TypedText(required=False, widget=forms.TextInput({"spellcheck": "false", "autocomplete": "off"}))

    def clean_columns(self) -> list[run_columns.Column] | None:
        text: str = self.cleaned_data["columns"]
        if not text.strip() or self.cleaned_data.get("format") == ExportFormat.JSONL:
            return None
        try:
            return run_columns.parse(text)
        except InvalidColumns as error:
            raise forms.ValidationError(str(error)) from None

    def clean(self) -> dict[str, Any]:
        try:
            zone = search.time_zone(self.cleaned_data.get("tz") or "UTC")
            self.cleaned_data["search"] = RunSearch.parse(self.cleaned_data.get("q", ""), zone)
        except (InvalidSearch, ValueError) as error:
            raise forms.ValidationError(str(error)) from None
        return self.cleaned_data

    def selected(self) -> list[int] | None:
        """The primary keys of the ticked runs. None if all that match the search are exported."""
        keys = str(self["keys"].value() or "")
        return [int(key) for key in keys.split(",") if key.isdecimal()] if keys else None


@admin.register(Export)
class ExportAdmin(ReadOnlyAdmin):
    view_action = Action.VIEW_RUNS
    actions = ("cancel",)
    change_list_template = "runsadmin/exports.html"

    list_display = (display.when, display.status, "what", "format_", "rows_", "file_", "by")
    list_filter = (filters.choice("status", list(ExportStatus.choices)),)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Export]:
        return exports.visible_to(actor(request))

    def is_live(self, export: Export) -> bool:
        return export.status in UNFINISHED

    @admin.display(description="runs")
    def what(self, export: Export) -> SafeString:
        return format_html("<bdi>{}</bdi>", described(export.query, is_ticked=export.is_of_ticked))

    @admin.display(description="format")
    def format_(self, export: Export) -> str:
        return export.get_format_display()

    @admin.display(description="exported")
    def rows_(self, export: Export) -> str | SafeString:
        return display.number(export.rows)

    @admin.display(description="file")
    def file_(self, export: Export) -> SafeString:
        if not export.has_file:
            return display.EMPTY
        return format_html('<a class="ra-link" href="{}">Download</a>', links.change_url(export, "file"))

    @admin.display(description="by")
    def by(self, export: Export) -> str:
        return export.actor.get_username()

    @admin.action(description="Cancel", permissions=["view_runs"], location=EVERYWHERE)
    def cancel(self, request: HttpRequest, queryset: QuerySet[Export]) -> None:
        self.for_each(request, queryset, lambda export: exports.cancel(export=export, actor=actor(request)))

    # --- the page of one export, and its file

    def get_urls(self) -> list[URLPattern]:
        return [self.row_url("file", self.file_view), *super().get_urls()]

    def page(self, request: HttpRequest, export: Export) -> HttpResponse:
        return self.render(
            request, "runsadmin/export.html", str(export), export=export, original=export,
            what=described(export.query, is_ticked=export.is_of_ticked), is_live=self.is_live(export),
            gaps=gaps_of(export),
            **self.page_actions(request, export, ("cancel",) if self.is_live(export) else ()),
        )  # fmt: skip

    def file_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        export = self.row(request, object_id)
        file = None
        with reporting_errors(request):
            file = exports.open_file(export=export, actor=actor(request))
        return redirect(links.change_url(export)) if file is None else file_response(export, file)

    # --- starting one

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        require(request, Action.VIEW_RUNS)
        if request.method != "POST":
            return self.form_page(request, ExportForm(initial=request.GET.dict()))
        form = ExportForm(request.POST)
        if not form.is_valid():
            return self.form_page(request, form, status=422)
        given = form.cleaned_data
        new = NewExport(
            format=ExportFormat(given["format"]), search=given["search"], columns=given["columns"],
            keys=form.selected(), **origin(request),
        )  # fmt: skip
        try:
            if request.POST.get("into") == "file":
                return redirect(links.change_url(exports.request(new)))
            sending = exports.send(new)
        except (FormatUnavailable, InvalidSearch, TooManyExports) as error:
            form.add_error(None, str(error))
            return self.form_page(request, form, status=429 if isinstance(error, TooManyExports) else 422)
        return file_response(sending.export, sending)  # type: ignore[return-value] # Django's stubs: any response.

    def form_page(self, request: HttpRequest, form: ExportForm, *, status: int = 200) -> HttpResponse:
        selected = form.selected()
        what = described(str(form["q"].value() or ""), is_ticked=selected is not None)
        response = self.render(
            request, "runsadmin/export_form.html", "Export runs", form=form, what=what,
            ticked=None if selected is None else len(selected),
        )  # fmt: skip
        response.status_code = status
        return response


def form_url(found: RunSearch, columns: Iterable[Column]) -> str:
    """The form for all runs that match a search."""
    initial = {"q": str(found.node or ""), "tz": str(found.tz), "columns": ",".join(map(str, columns))}
    return f"{links.list_url(Export, 'add')}?{urlencode(initial)}"


def form_for_ticked(site: admin.AdminSite, request: HttpRequest, keys: str, columns: Iterable[Column]) -> HttpResponse:
    """The form for the runs with these primary keys, which are separated by commas."""
    model_admin = site.get_model_admin(Export)
    assert isinstance(model_admin, ExportAdmin)
    return model_admin.form_page(request, ExportForm(initial={"keys": keys, "columns": ",".join(map(str, columns))}))


def described(query: str, *, is_ticked: bool) -> str:
    """Which runs an export has."""
    return "Ticked runs" if is_ticked else (query or "All runs")


_GAPS = {
    "runs_missing_upstream": "runs that upstream no longer has: they are exported as last seen",
    "runs_with_unknown_metadata": "runs whose metadata is not known",
    "runs_waiting_for_refresh": "runs that wait for a refresh, so they may be out of date",
    "threads_never_read_fully": "threads that were never read fully, so runs may be absent",
    "threads_with_sync_errors": "threads whose last sync had errors, so runs may be absent",
}


def gaps_of(export: Export) -> list[tuple[int, str]]:
    """What may be missing, according to the manifest: how many, and of what."""
    incomplete = (export.manifest or {}).get("incomplete", {})
    counts = {name: value["count"] if isinstance(value, dict) else value for name, value in incomplete.items()}
    return [(counts[name], what) for name, what in _GAPS.items() if counts.get(name)]


def file_response(export: Export, content: Any) -> StreamingHttpResponse:
    content_type = CONTENT_TYPES[export.format]
    if export.has_file:  # The web server sends it by itself, without occupying a thread.
        return FileResponse(content, as_attachment=True, filename=export.filename, content_type=content_type)
    headers = {"Content-Disposition": f'attachment; filename="{export.filename}"'}
    return StreamingHttpResponse(content, content_type=content_type, headers=headers)
