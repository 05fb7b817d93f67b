"""Saved views of the list of runs: to rename, change, share and delete them."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.widgets import (
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from runsadmin.admin import list_state
from runsadmin.admin.base import ThemedAdmin, actor, may, reporting_errors, require
from runsadmin.admin.row_forms import TypedText
from runsadmin.admin.run_change_list import LABELS
from runsadmin.errors import NotAllowed, UnknownView
from runsadmin.models import Run, SavedView
from runsadmin.services import permissions, views
from runsadmin.services.permissions import Action
from runsadmin.services.run_search import Sort
from runsadmin.templatetags import display, links


class SavedViewForm(forms.ModelForm[SavedView]):
    query = TypedText(
        label="Search", required=False, widget=UnfoldAdminTextareaWidget({"rows": 3, "spellcheck": "false"}),
        help_text="Such as status:failed created:>-7d. Empty: all runs.",
    )  # fmt: skip
    columns = TypedText(
        required=False, widget=UnfoldAdminTextInputWidget({"spellcheck": "false", "autocomplete": "off"}),
        help_text="Such as id,status,error,metadata.team. Empty: the default columns.",
    )  # fmt: skip
    sort = forms.ChoiceField(
        label="Order", choices=[(sort.value, LABELS[sort][0].capitalize()) for sort in Sort],
        widget=UnfoldAdminSelectWidget,
    )  # fmt: skip
    is_default = forms.BooleanField(
        label="My default view", required=False, widget=UnfoldBooleanSwitchWidget,
        help_text="Whether your list of runs opens with this view.",
    )  # fmt: skip

    class Meta:
        model = SavedView
        fields = ("name", "query", "columns", "sort", "tz", "is_shared")

    actor: User  # Set by the admin.

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.was_default = self.instance.pk is not None and views.default_of(self.actor) == self.instance
        if not self.instance.pk:  # Until the theme shows the page, nothing can have the focus.
            self.fields["name"].widget.attrs["x-init"] = "$nextTick(() => $el.focus())"
        if "is_default" not in self.fields:  # The user may not change the view.
            return
        self.fields["is_default"].initial = self.was_default
        if not permissions.may(self.actor, Action.SHARE_VIEWS):
            self.fields["is_shared"].disabled = True
            self.fields["is_shared"].help_text = permissions.why_not(self.actor, Action.SHARE_VIEWS)

    def clean(self) -> dict[str, Any]:
        view = copy(self.instance)
        for name, value in self.cleaned_data.items():
            setattr(view, name, value)
        for field, error in views.problems(view):
            if field in self.changed_data or not self.instance.pk:
                self.add_error(field, str(error))
        return self.cleaned_data


@admin.register(SavedView)
class SavedViewAdmin(ThemedAdmin):
    """Everyone sees their own views and the shared ones. `services.views` decides who may change which."""

    form = SavedViewForm
    change_list_template = "runsadmin/saved_views.html"
    change_form_template = "runsadmin/saved_view.html"
    actions = None
    list_display = ("name_", "search", "order", "sharing")
    list_display_links = None
    list_per_page = 100
    empty_value_display = display.EMPTY

    # --- permissions

    def has_module_permission(self, request: HttpRequest) -> bool:
        return may(request, Action.VIEW_RUNS)

    def has_view_permission(self, request: HttpRequest, obj: SavedView | None = None) -> bool:
        return may(request, Action.VIEW_RUNS)

    def has_add_permission(self, request: HttpRequest, obj: SavedView | None = None) -> bool:
        return may(request, Action.VIEW_RUNS)

    def has_change_permission(self, request: HttpRequest, obj: SavedView | None = None) -> bool:
        return may(request, Action.VIEW_RUNS) if obj is None else views.may_change(obj, actor(request))

    def has_delete_permission(self, request: HttpRequest, obj: SavedView | None = None) -> bool:
        if obj is not None and not obj.is_shared and obj.owner_id != actor(request).pk:
            return actor(request).has_perm("auth.delete_user")  # Only together with its owner's account.
        return self.has_change_permission(request, obj)

    def get_queryset(self, request: HttpRequest) -> QuerySet[SavedView]:
        return views.visible_to(actor(request))

    # --- the list

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        default = views.default_of(actor(request))

        @admin.display(description="opens your list")
        def opens(view: SavedView) -> str:
            return "Yes" if view == default else display.EMPTY

        return [*self.list_display, opens]

    @admin.display(description="view")
    def name_(self, view: SavedView) -> SafeString:
        return format_html(
            '<a href="{}?view={}"><bdi>{}</bdi></a> <a class="ra-link ra-note" href="{}">Details</a>',
            links.list_url(Run), view.slug, view, links.change_url(view),
        )  # fmt: skip

    @admin.display(description="search")
    def search(self, view: SavedView) -> SafeString:
        problem = next((error for field, error in views.problems(view)), None)
        note = format_html('<span class="ra-error">{}</span>', problem) if problem else ""
        return format_html('<code class="ra-saved-search">{}</code> {}', view.query or "all runs", note)

    @admin.display(description="order")
    def order(self, view: SavedView) -> str:
        return LABELS[Sort(view.sort)][0] if view.sort in Sort else view.sort

    @admin.display(description="seen by")
    def sharing(self, view: SavedView) -> str:
        return f"everyone (owner: {view.owner or 'none'})" if view.is_shared else "you"

    # --- the form

    def get_form(self, request: HttpRequest, obj: SavedView | None = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change, **kwargs)
        return type("SavedViewForm", (form,), {"actor": actor(request)})

    def get_fields(self, request: HttpRequest, obj: SavedView | None = None) -> list[str]:
        """Others see the stored fields. The slug is what REST and commands call the view."""
        fields = [*SavedViewForm.Meta.fields]
        if obj is not None:
            fields.insert(1, "slug")
        return [*fields, "is_default" if self.has_change_permission(request, obj) else "owner"]

    def get_readonly_fields(self, request: HttpRequest, obj: SavedView | None = None) -> list[str]:
        return ["slug"]

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        require(request, Action.VIEW_RUNS)
        cancel_url = links.list_url(SavedView)
        if object_id is None:  # The list that is being saved.
            shown = {name: request.GET[name] for name in views.LIST_FIELDS if name in request.GET}
            cancel_url = f"{links.list_url(Run)}?{list_state.query_of(SavedView(**shown))}"
        own = {"show_save_and_add_another": False, "show_save_and_continue": False, "cancel_url": cancel_url}
        response: HttpResponse = super().changeform_view(request, object_id, form_url, own | (extra_context or {}))
        return response

    def save_model(self, request: HttpRequest, obj: SavedView, form: SavedViewForm, change: bool) -> None:
        with _errors_as_pages():
            views.save(view=obj, actor=actor(request))
            if form.cleaned_data["is_default"] != form.was_default:
                views.set_default(view=None if form.was_default else obj, actor=actor(request))

    def delete_model(self, request: HttpRequest, obj: SavedView) -> None:
        with _errors_as_pages():
            views.delete(view=obj, actor=actor(request))

    def response_post_save_add(self, request: HttpRequest, obj: SavedView) -> HttpResponse:
        return redirect(f"{links.list_url(Run)}?view={obj.slug}")

    response_post_save_change = response_post_save_add

    # --- from the list of runs

    def get_urls(self) -> list[URLPattern]:
        return [
            path("<slug:slug>/save/", self.view(self.save_view), name="runsadmin_savedview_save"),
            path("<slug:slug>/default/", self.view(self.default_view), name="runsadmin_savedview_default"),
            *super().get_urls(),
        ]

    def save_view(self, request: HttpRequest, slug: str) -> HttpResponse:
        """Stores what the list shows in the view."""
        view = self._view(request, slug)
        if request.method == "POST":
            for name in views.LIST_FIELDS:
                setattr(view, name, request.POST.get(name, ""))
            with reporting_errors(request):
                views.save(view=view, actor=actor(request))
                messages.success(request, f"Saved the view “{view}”.")
        return redirect(f"{links.list_url(Run)}?{list_state.query_of(view)}")

    def default_view(self, request: HttpRequest, slug: str) -> HttpResponse:
        """Makes the user's list of runs open with the view or, if it is that view already, with all runs."""
        view = self._view(request, slug)
        if request.method == "POST":
            is_default = views.default_of(actor(request)) == view
            with _errors_as_pages():
                views.set_default(view=None if is_default else view, actor=actor(request))
            opens = "with all runs" if is_default else f"with the view “{view}”"
            messages.success(request, f"Your list of runs now opens {opens}.")
        return redirect(f"{links.list_url(Run)}?{list_state.query_of(view)}")

    def _view(self, request: HttpRequest, slug: str) -> SavedView:
        require(request, Action.VIEW_RUNS)
        with _errors_as_pages():
            return views.resolve(slug, actor(request))


@contextmanager
def _errors_as_pages() -> Iterator[None]:
    """A refusal is a 403. A view that does not exist, or was deleted in the meantime, is a 404."""
    try:
        yield
    except NotAllowed as error:
        raise PermissionDenied(str(error)) from None
    except UnknownView as error:
        raise Http404(str(error)) from None
