"""Tokens for the REST API: created, shown once, and revoked here. Users see their own; superusers see all."""

import datetime as dt
from typing import Any

from django import forms
from django.apps import apps
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect
from django.utils import timezone

from runsadmin.admin.base import ThemedAdmin, actor
from runsadmin.models.token_details import MAX_NAME_LENGTH
from runsadmin.services import permissions, tokens
from runsadmin.templatetags import links

# Looked up by name, since only the service may import knox.
AuthToken = apps.get_model("knox", "AuthToken")
LIFETIMES = (7, 30, 90, 365)
MAX_SHOWN = 500
TEXT_BOX = {"class": "ra-input", "autocomplete": "off"}


class TokenForm(forms.Form):
    """Creates a token of the user or, for superusers, of any active account."""

    name = forms.CharField(
        max_length=MAX_NAME_LENGTH,
        widget=forms.TextInput({"placeholder": "What it is for", **TEXT_BOX}),
        error_messages=dict.fromkeys(
            ("required", "max_length"), f"Enter what the token is for, in at most {MAX_NAME_LENGTH} characters."
        ),
    )
    username = forms.CharField(required=False, widget=forms.TextInput({"aria-label": "Account", **TEXT_BOX}))
    days = forms.TypedChoiceField(
        coerce=int,
        choices=[(days, f"{days} days") for days in LIFETIMES],
        initial=90,
        widget=forms.Select({"class": "ra-input"}),
        error_messages=dict.fromkeys(("required", "invalid_choice"), "Choose when the token expires."),
    )

    def __init__(self, user: User, data: QueryDict | None = None) -> None:
        super().__init__(data, auto_id="")
        self.user = user
        self.fields["username"].widget.attrs["placeholder"] = user.get_username()
        if not user.is_superuser:
            del self.fields["username"]

    def clean_name(self) -> str:
        return " ".join(self.cleaned_data["name"].split())

    def clean_username(self) -> User:
        if not (username := self.cleaned_data["username"]):
            return self.user
        found = User.objects.filter(username=username, is_active=True).first()
        if found is None:
            raise forms.ValidationError(f"There is no active account {username!r}.")
        return found

    def create(self) -> str:
        values = self.cleaned_data
        lifetime = dt.timedelta(days=values["days"])
        return tokens.create(user=values.get("username", self.user), expires_in=lifetime, name=values["name"])


@admin.register(AuthToken)
class TokenAdmin(ThemedAdmin):
    actions = None

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        queryset = tokens.newest_first()
        return queryset if actor(request).is_superuser else queryset.filter(user=actor(request))

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if not self.has_view_permission(request):
            self._require_add(request)
        return self._render(request)

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Creates a token and shows it in the response, which must not be cached."""
        self._require_add(request)
        if request.method != "POST":
            return redirect(links.list_url(AuthToken))
        form = TokenForm(actor(request), request.POST)
        return self._render(request, token=form.create() if form.is_valid() else "", form=form)

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        token = self.get_object(request, object_id)
        if token is None or not self.has_delete_permission(request, token):
            raise PermissionDenied
        if request.method != "POST":
            return self._render(request, revoking=token)
        tokens.revoke(token)
        messages.success(request, "Token revoked.")
        return redirect(links.list_url(AuthToken))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return redirect(links.list_url(AuthToken))

    def _require_add(self, request: HttpRequest) -> None:
        if not self.has_add_permission(request):
            why = permissions.why_not_permitted(actor(request), "knox.add_authtoken", "create API tokens")
            raise PermissionDenied(why)

    def _render(
        self, request: HttpRequest, *, token: str = "", revoking: Any = None, form: TokenForm | None = None
    ) -> HttpResponse:
        now = timezone.now()
        rows = [(row, row.expiry is not None and row.expiry <= now) for row in self.get_queryset(request)[:MAX_SHOWN]]
        response = self.render(
            request, "runsadmin/tokens.html", "API tokens", opts=None, rows=rows, token=token, revoking=revoking,
            form=TokenForm(actor(request)) if token or form is None else form,
        )  # fmt: skip
        response.headers["Cache-Control"] = "no-store"
        return response
