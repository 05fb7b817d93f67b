"""Accounts and groups: Django's own pages in the theme, offering only the permissions that this app checks.

Nobody can gain permissions by changing an account or a group. Only superusers can make superusers. Other users can
grant only permissions that they have, and can change only accounts and groups that have no others.
"""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, Permission, User
from django.db.models import ManyToManyField, QuerySet
from django.http import HttpRequest
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from runsadmin.admin.base import ThemedAdmin, actor
from runsadmin.services import accounts, permissions


class PermissionHolderAdmin(ThemedAdmin):
    """For models whose rows have permissions. Offers only those that the user may grant, in plain words."""

    def has_change_permission(self, request: HttpRequest, obj: User | Group | None = None) -> bool:
        return super().has_change_permission(request, obj) and self._has_no_less(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: User | Group | None = None) -> bool:
        return super().has_delete_permission(request, obj) and self._has_no_less(request, obj)

    def _has_no_less(self, request: HttpRequest, obj: User | Group | None) -> bool:
        return obj is None or permissions.may_manage(actor(request), obj)

    def formfield_for_manytomany(
        self, db_field: ManyToManyField[Any, Any], request: HttpRequest, **kwargs: Any
    ) -> forms.Field | None:
        field: forms.Field | None = super().formfield_for_manytomany(db_field, request, **kwargs)
        if not isinstance(field, forms.ModelMultipleChoiceField):
            return field
        if db_field.related_model is Permission:
            tokens = Permission.objects.filter(content_type__app_label="knox").exclude(codename="change_authtoken")
            offered = (permissions.assignable() | tokens).filter(pk__in=permissions.grantable(actor(request)))
            field.queryset = offered.select_related("content_type")
            field.label_from_instance = permissions.label  # type: ignore[method-assign, assignment]
        elif db_field.related_model is Group:
            field.queryset = permissions.grantable_groups(actor(request))
        return field


@admin.register(User)
class UserAdmin(DjangoUserAdmin, PermissionHolderAdmin):  # type: ignore[misc, type-arg]
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "email", "is_active", "is_staff", "is_superuser", "last_login")

    def get_deleted_objects(
        self, objs: Sequence[User] | QuerySet[User], request: HttpRequest
    ) -> tuple[list[Any], dict[str, int], set[str], list[Any]]:
        """Refuses accounts that rows refer to, without collecting these rows, of which there may be very many."""
        if in_use := [user for user in objs if accounts.has_history(user)]:
            return [], {}, set(), [
                f"The account {user.get_username()} cannot be deleted: edits, bulk edits, syncs or exports name it."
                " Deactivate it instead." for user in in_use
            ]  # fmt: skip
        return super().get_deleted_objects(objs, request)

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> tuple[str, ...]:
        fields = tuple(super().get_readonly_fields(request, obj))
        return fields if actor(request).is_superuser else (*fields, "is_superuser")


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, PermissionHolderAdmin):  # type: ignore[misc]
    pass
