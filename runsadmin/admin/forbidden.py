"""The page for what a user may not do. Django's own pages do not say which permission is missing, so this does."""

from collections.abc import Iterator

from django.contrib import admin
from django.contrib.auth import get_permission_codename
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.views import defaults

from runsadmin.admin.base import actor
from runsadmin.services import permissions

# The apps whose pages are Django's own. The refusals of other pages name the permission themselves.
_APPS = ("auth", "knox")
# What each page needs. To add a user, Django also requires the permission to change one.
_VERBS = {
    "changelist": ("view",),
    "add": ("add", "change"),
    "change": ("view", "change"),
    "delete": ("delete",),
    "history": ("view",),
    "password_change": ("change",),
}


def page(request: HttpRequest, exception: Exception) -> HttpResponse:
    if not str(exception) and (missing := next(_missing(request), None)):
        exception = PermissionDenied(missing)
    return defaults.permission_denied(request, exception)


def _missing(request: HttpRequest) -> Iterator[str]:
    """Why the user may not open this page of a model."""
    view = request.resolver_match.view_name if request.resolver_match else ""
    for opts in (model._meta for model in admin.site._registry if model._meta.app_label in _APPS):
        for verb in _VERBS.get(view.removeprefix(f"admin:{opts.app_label}_{opts.model_name}_"), ()):
            permission = f"{opts.app_label}.{get_permission_codename(verb, opts)}"
            if not actor(request).has_perm(permission):
                yield permissions.why_not_permitted(actor(request), permission, f"{verb} {opts.verbose_name_plural}")
