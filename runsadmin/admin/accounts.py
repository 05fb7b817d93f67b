"""Accounts and groups: Django's own pages in the theme, offering only the permissions that this app checks."""

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, Permission, User
from django.db.models import ManyToManyField
from django.http import HttpRequest
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from runsadmin.admin.base import ThemedAdmin
from runsadmin.services import permissions


class PermissionChoices:
    """Offers only the permissions that this site checks, in plain words."""

    def formfield_for_manytomany(
        self, db_field: ManyToManyField[Any, Any], request: HttpRequest, **kwargs: Any
    ) -> forms.Field | None:
        field: forms.Field | None = super().formfield_for_manytomany(  # type: ignore[misc]
            db_field, request, **kwargs
        )
        if db_field.related_model is Permission and isinstance(field, forms.ModelMultipleChoiceField):
            tokens = Permission.objects.filter(content_type__app_label="knox").exclude(codename="change_authtoken")
            field.queryset = (permissions.assignable() | tokens).select_related("content_type")
            field.label_from_instance = permissions.label  # type: ignore[method-assign, assignment]
        return field


@admin.register(User)
class UserAdmin(PermissionChoices, DjangoUserAdmin, ThemedAdmin):  # type: ignore[misc, type-arg]
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "email", "is_active", "is_staff", "is_superuser", "last_login")


@admin.register(Group)
class GroupAdmin(PermissionChoices, DjangoGroupAdmin, ThemedAdmin):  # type: ignore[misc]
    pass
