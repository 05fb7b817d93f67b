from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import models
from django.db.models import Q, QuerySet

from runsadmin.models.fields import CleanCharField, CleanTextField

MAX_NAME_LENGTH = 100


def keep_shared(collector: Any, field: Any, views: QuerySet["SavedView"], using: str) -> None:
    """When an account is deleted: its shared views stay without an owner, its private ones are deleted."""
    models.SET_NULL(collector, field, views.filter(is_shared=True), using)
    models.CASCADE(collector, field, views.filter(is_shared=False), using)


class SavedViewQuerySet(models.QuerySet["SavedView"]):
    def visible_to(self, user: User) -> "SavedViewQuerySet":
        return self.filter(Q(owner=user) | Q(is_shared=True))


class SavedView(models.Model):
    """A named list of runs: its search, columns, order and time zone.

    A slug belongs to one view only, whether private or shared. So a link never means different views for different
    users, and sharing a view never changes its slug.
    """

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=keep_shared, null=True, related_name="saved_views")
    name = CleanCharField(max_length=MAX_NAME_LENGTH)
    slug = models.SlugField(max_length=MAX_NAME_LENGTH, unique=True)
    query = CleanTextField("search", blank=True, help_text="As its owner wrote it.")
    columns = CleanTextField(blank=True, help_text="Names of columns, separated by commas. Empty: the usual ones.")
    sort = models.CharField("order", max_length=32, default="-created_at")
    tz = models.CharField(
        "time zone", max_length=64, default="UTC", help_text="For the dates in the search and for the times shown."
    )
    is_shared = models.BooleanField("shared", default=False, help_text="Whether everyone who may view runs can see it.")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = SavedViewQuerySet.as_manager()

    class Meta:
        permissions = [("share_savedview", "Can share saved view")]
        constraints = [
            models.CheckConstraint(
                condition=Q(is_shared=True) | Q(owner__isnull=False), name="saved_view_private_has_owner"
            ),
        ]
        indexes = [models.Index(fields=["name"], condition=Q(is_shared=True), name="saved_view_shared")]

    def __str__(self) -> str:
        return str(self.name)


class DefaultView(models.Model):
    """The view that an account's list of runs opens with. A shared view can be the default of several accounts."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, primary_key=True, related_name="default_view"
    )
    view = models.ForeignKey(SavedView, on_delete=models.CASCADE, related_name="default_of")

    def __str__(self) -> str:
        return f"default view of {self.user}"
