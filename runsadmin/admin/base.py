"""What every admin page of this project shares: the rights, the frame, and how errors of the services are told."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPMethod
from typing import Any, ClassVar

from django.contrib import messages
from django.contrib.admin.options import ActionLocation
from django.contrib.admin.utils import unquote
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import models
from django.db.models.fields import BLANK_CHOICE_DASH
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from unfold.admin import ModelAdmin as ThemeAdmin

from runsadmin.admin.change_list import KeysetChangeList
from runsadmin.errors import NotAllowed, RunsAdminError
from runsadmin.services import permissions
from runsadmin.services.permissions import Action
from runsadmin.templatetags.links import change_url


def actor(request: HttpRequest) -> User:
    """Who is signed in: admin pages are for nobody else."""
    assert isinstance(request.user, User)
    return request.user


def may(request: HttpRequest, action: Action) -> bool:
    return isinstance(request.user, User) and permissions.may(request.user, action)  # Or nobody is signed in.


@contextmanager
def reporting_errors(request: HttpRequest) -> Iterator[None]:
    """Reports an error of a service: a missing permission as a 403, any other as a message on the next page."""
    try:
        yield
    except NotAllowed as error:
        raise PermissionDenied(str(error)) from error
    except RunsAdminError as error:
        messages.error(request, str(error))


class ThemedAdmin(ThemeAdmin):  # type: ignore[misc] # The theme has no types.
    """The theme's admin, and pages of our own in its frame."""

    def get_action_choices(
        self,
        request: HttpRequest,
        default_choices: Any = BLANK_CHOICE_DASH,
        action_location: ActionLocation = ActionLocation.CHANGE_LIST,  # New in Django 6.1; the theme lacks it.
    ) -> list[tuple[str, str]]:
        choices: list[tuple[str, str]] = super(ThemeAdmin, self).get_action_choices(
            request, default_choices, action_location
        )
        return choices

    def render(self, request: HttpRequest, template: str, title: str, **context: Any) -> TemplateResponse:
        request.current_app = self.admin_site.name
        shared = self.admin_site.each_context(request)
        return TemplateResponse(request, template, {**shared, "opts": self.opts, "title": title, **context})

    def view(self, view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponse]:
        """A view of this admin: signed in, protected against forged requests, never cached."""
        return self.admin_site.admin_view(view)  # type: ignore[no-any-return]


class ReadOnlyAdmin(ThemedAdmin):
    """A list that pages by key, and a page for each row. Nothing is saved here: buttons call services.

    Subclasses give `page`, which shows one row, and `buttons`: names of methods that take (request, row), are called by
    POST at `<pk>/<name>/`, and return where to go.
    """

    view_action: ClassVar[Action]
    buttons: ClassVar[tuple[str, ...]] = ()
    list_template: ClassVar[str] = "runsadmin/list.html"

    actions = None
    sortable_by = ()
    list_per_page = 50
    show_full_result_count = False
    # The fields that lists are sorted by, newest first. Together they are unique, and there is an index on them.
    keyset: ClassVar[tuple[str, ...]] = ("pk",)

    @property
    def change_list_template(self) -> str:
        return self.list_template

    def has_view_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return may(request, self.view_action)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_add_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[KeysetChangeList]:
        return KeysetChangeList

    def get_ordering(self, request: HttpRequest) -> list[str]:
        return [f"-{field}" for field in self.keyset]

    def get_urls(self) -> list[URLPattern]:
        own = [path(f"<path:object_id>/{name}/", self._press(name), name=self.url_name(name)) for name in self.buttons]
        return [*own, *super().get_urls()]

    def url_name(self, page: str) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_{page}"

    def row(self, request: HttpRequest, object_id: str) -> Any:
        """The row of a page. Raises PermissionDenied, Http404."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            return self.get_queryset(request).get(pk=unquote(object_id))
        except (self.model.DoesNotExist, ValueError):
            raise Http404(f"There is no {self.opts.verbose_name} {object_id!r}.") from None

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        row = self.row(request, object_id)
        if request.method not in (HTTPMethod.GET, HTTPMethod.HEAD):
            raise PermissionDenied("This page saves nothing.")
        return self.page(request, row)

    def page(self, request: HttpRequest, row: Any) -> HttpResponse:
        raise NotImplementedError

    def _press(self, name: str) -> Callable[..., HttpResponse]:
        def press(request: HttpRequest, object_id: str) -> HttpResponse:
            row = self.row(request, object_id)
            if request.method != HTTPMethod.POST:
                return redirect(change_url(row))
            response: HttpResponse = redirect(change_url(row))
            with reporting_errors(request):
                response = getattr(self, name)(request, row)
            return response  # noqa: RET504 - The redirect after an error.

        return self.view(press)
