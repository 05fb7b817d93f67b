"""What the admin pages share: permissions, layout, actions, and the reporting of service errors."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from http import HTTPMethod
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import ActionLocation
from django.contrib.admin.utils import unquote
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import models
from django.db.models import QuerySet
from django.db.models.fields import BLANK_CHOICE_DASH
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin as ThemeAdmin
from unfold.admin import checkbox

from runsadmin import log_context
from runsadmin.admin.change_list import KeysetChangeList, ThemedChangeList
from runsadmin.errors import NotAllowed, RunsAdminError
from runsadmin.models import EditSource
from runsadmin.services import permissions
from runsadmin.services.permissions import Action
from runsadmin.templatetags import display
from runsadmin.templatetags.links import change_url
from runsadmin.text import counted, is_text

# Where actions are offered: above a list for the ticked rows, and on the page of one row.
EVERYWHERE = [ActionLocation.CHANGE_LIST, ActionLocation.CHANGE_FORM]
MAX_ROWS = 500  # For actions that call a service for each row.
MAX_TICKED = 1_000  # For actions that can also apply to all matching rows.
CONFIRM_SHOWN = 20
# The checkbox of a row, rendered once: the theme does this for each row, which takes a sixth of the time of a list.
_CHECKBOX = checkbox.render(ACTION_CHECKBOX_NAME, "key").replace('"key"', '"{}"')


def actor(request: HttpRequest) -> User:
    """The signed-in user. Admin pages require one."""
    assert isinstance(request.user, User)
    return request.user


def may(request: HttpRequest, action: Action) -> bool:
    return isinstance(request.user, User) and permissions.may(request.user, action)  # False if nobody is signed in.


def require(request: HttpRequest, action: Action) -> None:
    """Raises PermissionDenied, which names the permission."""
    with reporting_errors(request):
        permissions.require(actor(request), action)


def origin(request: HttpRequest) -> dict[str, Any]:
    """The arguments of services that say where an edit comes from."""
    return {"actor": actor(request), "source": EditSource.ADMIN, "request_id": log_context.request_id()}


@contextmanager
def reporting_errors(request: HttpRequest) -> Iterator[None]:
    """Reports a service error: a missing permission as a 403, any other error as a message on the next page."""
    try:
        yield
    except NotAllowed as error:
        raise PermissionDenied(str(error)) from error
    except RunsAdminError as error:
        messages.error(request, str(error))


class ThemedAdmin(ThemeAdmin):  # type: ignore[misc] # The theme has no types.
    """The theme's admin, with custom pages in its layout."""

    def get_action_choices(
        self,
        request: HttpRequest,
        default_choices: Any = BLANK_CHOICE_DASH,
        action_location: ActionLocation = ActionLocation.CHANGE_LIST,  # The theme's method lacks it.
    ) -> list[tuple[str, str]]:
        choices: list[tuple[str, str]] = super(ThemeAdmin, self).get_action_choices(
            request, default_choices, action_location
        )
        return choices

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """Like Django's, which crashes if the parameter `_to_field` is empty, or if PostgreSQL cannot read the id."""
        return super().get_object(request, object_id, from_field or None) if is_text(object_id) else None

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ThemedChangeList]:
        return ThemedChangeList

    def render(self, request: HttpRequest, template: str, title: str, **context: Any) -> TemplateResponse:
        request.current_app = self.admin_site.name
        shared = self.admin_site.each_context(request)
        return TemplateResponse(request, template, {**shared, "opts": self.opts, "title": title, **context})

    def view(self, view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponse]:
        """Wraps a view, so that it requires sign-in, is protected against CSRF, and is never cached."""
        return self.admin_site.admin_view(view)  # type: ignore[no-any-return]


class ReadOnlyAdmin(ThemedAdmin):
    """A list with keyset pagination, and a page for each row. Nothing is saved here: actions call services.

    Subclasses define `page`, which shows one row.
    """

    view_action: ClassVar[Action]
    change_list_template = "runsadmin/list.html"

    actions: tuple[str, ...] = ()
    actions_for_all: ClassVar[tuple[str, ...]] = ()  # These can also apply to all rows that match the filters.
    sortable_by: ClassVar[tuple[Any, ...]] = ()
    preserve_filters = False
    empty_value_display = display.EMPTY
    list_per_page = 50
    show_full_result_count = False
    # The fields by which lists are sorted, newest first. They are unique together and have an index.
    keyset: ClassVar[tuple[str, ...]] = ("pk",)

    @property
    def media(self) -> forms.Media:
        return forms.Media()  # Lists have their own script for ticking rows.

    # --- permissions

    def has_view_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return may(request, self.view_action)

    def has_add_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    # --- lists and pages

    @admin.display(description=ThemeAdmin.action_checkbox.short_description)
    def action_checkbox(self, row: models.Model) -> SafeString:
        return format_html(_CHECKBOX, row.pk)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[KeysetChangeList]:
        return KeysetChangeList

    def get_ordering(self, request: HttpRequest) -> list[str]:
        return [f"-{field}" for field in self.keyset]

    def url_name(self, page: str) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_{page}"

    def row_url(self, name: str, view: Callable[..., HttpResponseBase]) -> URLPattern:
        return path(f"<path:object_id>/{name}/", self.view(view), name=self.url_name(name))

    def row(self, request: HttpRequest, object_id: str) -> Any:
        """The row that a page shows. Raises PermissionDenied or Http404."""
        require(request, self.view_action)
        row = self.get_object(request, unquote(object_id))
        if row is None:
            raise Http404(f"There is no {self.opts.verbose_name} {object_id!r}.")
        return row

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        require(request, self.view_action)
        own = {"actions_for_all": self.actions_for_all, "max_rows": MAX_ROWS, "max_ticked": MAX_TICKED}
        response: HttpResponse = super().changelist_view(request, own | (extra_context or {}))
        return response

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        row = self.row(request, object_id)
        if request.method in (HTTPMethod.GET, HTTPMethod.HEAD):
            return self.page(request, row)
        if f"{ActionLocation.CHANGE_FORM.value}-action" not in request.POST:
            raise PermissionDenied("This page is read-only.")
        rows = self.get_queryset(request).filter(pk=row.pk)
        response = self.response_action(request, rows, action_location=ActionLocation.CHANGE_FORM)
        return response or redirect(change_url(row))

    def is_live(self, row: Any) -> bool:
        """Whether the row may change by itself, so that pages which show it must be refreshed."""
        return False

    def page(self, request: HttpRequest, row: Any) -> HttpResponse:
        raise NotImplementedError

    def page_actions(self, request: HttpRequest, row: Any, possible: Collection[str] | None = None) -> dict[str, Any]:
        """The context of the template `parts/actions.html`: names and descriptions of the permitted actions."""
        choices = self.get_action_choices(request, [], ActionLocation.CHANGE_FORM)
        actions = [choice for choice in choices if possible is None or choice[0] in possible]
        return {"actions": actions, "row_url": change_url(row)}

    # --- actions

    def response_action(
        self,
        request: HttpRequest,
        queryset: QuerySet[Any],
        action_location: ActionLocation = ActionLocation.CHANGE_LIST,
    ) -> HttpResponse | None:
        """Like Django's, but accepts keys joined by commas, and ticked rows that no longer match the filters."""
        is_list = action_location == ActionLocation.CHANGE_LIST
        name = request.POST.get("action" if is_list else f"{action_location.value}-action", "")
        self._check_permitted(request, name, action_location)
        posted = request.POST.copy()
        if is_list:
            is_across = posted.get("select_across") == "1"
            keys = read_keys(posted.getlist(ACTION_CHECKBOX_NAME))
            if problem := self._selection_problem(name, keys, is_across=is_across):
                messages.error(request, problem)
                return None
            if not is_across:
                _report_ticks_outside(request, keys, listed=queryset, all_rows=self.get_queryset(request))
                queryset = self.get_queryset(request)
        else:
            keys = [row.pk for row in queryset]
        posted.setlist(ACTION_CHECKBOX_NAME, list(map(str, keys)) or [""])
        request.POST = posted  # type: ignore[assignment] # Only the original is immutable.
        response: HttpResponse | None = None
        with reporting_errors(request):
            response = super().response_action(request, queryset, action_location)
        return response  # noqa: RET504 - None after an error.

    def _check_permitted(self, request: HttpRequest, name: str, location: ActionLocation) -> None:
        """Raises PermissionDenied if the action exists but the user may not take it."""
        if name in (self.actions or ()) and name not in self.get_actions(request, location):
            needed = getattr(type(self), name).allowed_permissions[0]
            require(request, Action[needed.upper()])

    def _selection_problem(self, name: str, keys: list[int], *, is_across: bool) -> str:
        if is_across:
            limited = f"This action is limited to {MAX_ROWS:,} rows. Tick rows instead of “All that match”."
            return "" if name in self.actions_for_all else limited
        if not keys:
            return "Nothing is selected. Select rows first."
        limit = MAX_TICKED if name in self.actions_for_all else MAX_ROWS
        if len(keys) > limit:
            other = " Filter the list and choose “All that match”." if name in self.actions_for_all else ""
            return f"{len(keys):,} rows are selected, but this action is limited to {limit:,}.{other}"
        return ""

    def for_each[R](self, request: HttpRequest, queryset: QuerySet[Any], call: Callable[[Any], R]) -> list[R]:
        """Calls a service for each row and returns its results. Refusals become messages. Raises NotAllowed."""
        results: list[R] = []
        refusals: Counter[str] = Counter()
        for row in queryset[:MAX_ROWS]:
            try:
                results.append(call(row))
            except NotAllowed:
                raise
            except RunsAdminError as error:
                refusals[str(error)] += 1
        for message, count in refusals.items():
            messages.error(request, message if count == 1 else f"{count:,} rows: {message}")
        return results

    def confirm(
        self, request: HttpRequest, queryset: QuerySet[Any], verb: str, explanation: str, *, reason: str = ""
    ) -> HttpResponse | None:
        """The confirmation page, or None once confirmed. `reason` is "optional", "required" or "" (none)."""
        if request.POST.get("confirmed") == "1":
            return None
        rows = list(queryset[:MAX_ROWS])
        what = str(rows[0]) if len(rows) == 1 else f"{len(rows):,} {self.opts.verbose_name_plural}"
        name_field = next(name for name in request.POST if name == "action" or name.endswith("-action"))
        return self.render(
            request, "runsadmin/confirm_action.html", f"{verb} {what}", explanation=explanation, reason=reason,
            action_field=name_field, action=request.POST[name_field], button=verb, rows=rows[:CONFIRM_SHOWN],
            more=len(rows) - CONFIRM_SHOWN, keys=",".join(str(row.pk) for row in rows),
            checkbox_name=ACTION_CHECKBOX_NAME,
        )  # fmt: skip


def _permission(action: Action) -> Callable[..., bool]:
    return lambda admin, request: may(request, action)


# Referenced by the `permissions` of actions: `has_sync_permission` and so on.
for _action in Action:
    setattr(ReadOnlyAdmin, f"has_{_action.name.lower()}_permission", _permission(_action))


def single[R](results: list[R], queryset: QuerySet[Any]) -> R | None:
    """The result of an action on a single row, whose page is shown next. None for several rows."""
    return results[0] if len(results) == 1 and len(queryset[:2]) == 1 else None


def read_keys(values: list[str]) -> list[int]:
    """Primary keys, each value having one or several that are joined by commas. Raises Http404."""
    parts = [part for value in values for part in value.split(",") if part]
    if not all(part.isdecimal() and part.isascii() and len(part) < 19 for part in parts):
        raise Http404("The selection contains invalid keys. Open the list again and select rows.")
    return list(dict.fromkeys(map(int, parts)))


def _report_ticks_outside(
    request: HttpRequest, keys: list[int], *, listed: QuerySet[Any], all_rows: QuerySet[Any]
) -> None:
    """Warns about ticked rows that no longer match the list's filters, since they are still selected."""
    inside = set(listed.filter(pk__in=keys).values_list("pk", flat=True))
    outside = list(all_rows.filter(pk__in=set(keys) - inside)) if len(inside) < len(keys) else []
    if outside:
        names = ", ".join(str(row) for row in outside[:5]) + (", …" if len(outside) > 5 else "")
        messages.warning(request, f"Selected rows that no longer match the filters are still included: {names}.")
    if gone := len(keys) - len(inside) - len(outside):
        messages.warning(request, f"{counted(gone, 'selected row')} no longer exist{'s' if gone == 1 else ''}.")
