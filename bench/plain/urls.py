"""A list of runs as a ModelSerializer view, in either pagination of REST framework, and as Django's admin list."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import path
from rest_framework.generics import ListAPIView
from rest_framework.pagination import CursorPagination, LimitOffsetPagination
from rest_framework.permissions import IsAuthenticated
from rest_framework.serializers import ModelSerializer, SlugRelatedField

from runsadmin.models import MetadataPair, Run


class PairSerializer(ModelSerializer[MetadataPair]):
    class Meta:
        model = MetadataPair
        fields = ["key", "value"]


class RunSerializer(ModelSerializer[Run]):
    """All columns. Fields without a column of their own are in `raw`."""

    thread = SlugRelatedField(slug_field="upstream_id", read_only=True)  # type: ignore[var-annotated]
    pairs = PairSerializer(many=True, read_only=True)

    class Meta:
        model = Run
        fields = [*(field.name for field in Run._meta.concrete_fields), "pairs"]


class NewestFirst(CursorPagination):
    """The same pages as ours: without a count, and without OFFSET."""

    page_size = 100
    ordering = ("-created_at", "-id")


class RunList(ListAPIView[Run]):
    queryset = Run.objects.select_related("thread").prefetch_related("pairs").order_by("-created_at", "-id")
    serializer_class = RunSerializer
    permission_classes = [IsAuthenticated]
    pagination_class = LimitOffsetPagination


class MetadataFilter(admin.SimpleListFilter):
    """The runs that have a pair, such as `?metadata=env:prod`."""

    title = "metadata"
    parameter_name = "metadata"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("env:prod", "env: prod"), ("env:canary", "env: canary")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Run]) -> QuerySet[Run]:
        value = self.value()
        if not value:
            return queryset
        key, _, text = value.partition(":")
        return queryset.filter(pairs__key=key, pairs__value=text)


class RunAdmin(admin.ModelAdmin[Run]):
    """The columns and filters of our list, except the filter by thread, which would list every thread."""

    list_display = ["upstream_id", "thread", "status", "created_at", "duration", "total_tokens", "model", "metadata_"]
    list_filter = [
        "status", "created_at", "connection", ("missing_since", admin.EmptyFieldListFilter), "model", "assistant_id",
        MetadataFilter,
    ]  # fmt: skip
    list_select_related = ["thread"]
    list_per_page = 50
    # Finds values that begin with the word, as our search does.
    search_fields = ["^upstream_id", "^thread__upstream_id", "^assistant_id", "^model", "^pairs__value"]
    ordering = ["-created_at", "-id"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Run]:
        return super().get_queryset(request).defer("raw").prefetch_related("pairs")

    @admin.display(description="metadata")
    def metadata_(self, run: Run) -> str:
        return ", ".join(f"{pair.key}: {pair.value}" for pair in run.pairs.all())


site = admin.AdminSite()
site.register(Run, RunAdmin)

urlpatterns = [
    path("admin/", site.urls),
    path("offset/", RunList.as_view()),
    path("cursor/", RunList.as_view(pagination_class=NewestFirst)),
]
