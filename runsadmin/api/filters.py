"""The filters of lists: the query parameters of each list. `source` is the lookup that a parameter applies."""

import datetime as dt
from collections.abc import Callable
from functools import partial
from typing import Any

from django.db.models import QuerySet
from rest_framework.filters import BaseFilterBackend
from rest_framework.request import Request
from rest_framework.serializers import BooleanField, IntegerField, ValidationError

from runsadmin import search
from runsadmin.api.fields import (
    ChoiceField,
    ColumnsField,
    MirroredConnectionField,
    SearchField,
    StringField,
    TimeField,
    TimeZoneField,
)
from runsadmin.api.serializers.strict import PageQuery, QuerySerializer
from runsadmin.models import BulkEdit, Edit, ExportFormat, ExportStatus, MetadataPair, Run, Sync
from runsadmin.models.saved_view import MAX_NAME_LENGTH
from runsadmin.services.run_search import Sort

CONNECTION = "Only rows of the connection with this alias."
ACTOR = "Only rows of the account with this name."


class QueryFilter(BaseFilterBackend):
    """Applies all parameters except those of pagination."""

    def filter_queryset(self, request: Request, queryset: QuerySet[Any], view: Any) -> QuerySet[Any]:
        others = ("cursor", "page_size")
        return queryset.filter(**{lookup: value for lookup, value in view.query.items() if lookup not in others})


class RunSearchQuery(QuerySerializer):
    """A search. Parameters such as `status` are short for terms of its language."""

    q = SearchField(required=False, allow_blank=True, help_text="A search (docs/search.md).")
    view = StringField(
        required=False,
        max_length=MAX_NAME_LENGTH,
        help_text="The slug of a saved view. `q`, `sort` and `tz` override those of the view.",
    )
    tz = TimeZoneField()
    connection = MirroredConnectionField(required=False, help_text=CONNECTION)
    status = StringField(required=False, max_length=64, help_text="A status, such as `completed`.")
    model = StringField(required=False, max_length=256, help_text="The name of the model, such as `gpt-4o`.")
    assistant_id = StringField(required=False, max_length=128, help_text="The id of the assistant.")
    thread_id = StringField(required=False, max_length=128, help_text="The id of the thread.")
    created_after = TimeField(
        required=False, help_text="Only runs created at this time or later. UTC unless it has an offset."
    )
    created_before = TimeField(
        required=False, help_text="Only runs created before this time. UTC unless it has an offset."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Adds `terms`, the nodes of all parameters in _TERMS."""
        terms = []
        for name, (field, test) in _TERMS.items():
            if name in attrs:
                value = attrs[name]
                try:
                    terms.append(
                        search.term(field, test(value.isoformat() if isinstance(value, dt.datetime) else value))
                    )
                except ValueError as error:
                    raise ValidationError({name: str(error)}, code="invalid") from None
        return attrs | {"terms": terms}


class RunListQuery(PageQuery, RunSearchQuery):
    sort = ChoiceField(
        list(Sort),
        default=Sort.NEWEST,
        help_text="The order: by creation, tokens or duration, descending with a `-`. Runs without a value come last.",
    )


class ExportQuery(RunSearchQuery):
    format = ChoiceField(ExportFormat.choices, help_text="`csv`, `jsonl` or `parquet`.")
    columns = ColumnsField(required=False)


_TERMS: dict[str, tuple[str, Callable[[str], search.Test]]] = {
    "connection": ("connection", search.Equal),
    "status": ("status", search.Equal),
    "model": ("model", search.Equal),
    "assistant_id": ("assistant", search.Equal),
    "thread_id": ("thread", search.Equal),
    "created_after": ("created", partial(search.Compare, ">=")),
    "created_before": ("created", partial(search.Compare, "<")),
}


class TextListQuery(PageQuery):
    prefix = StringField(
        default="",
        allow_blank=True,
        max_length=MetadataPair.INDEXED_LENGTH,
        help_text="Only keys or values that begin with this text.",
    )


class EditListQuery(PageQuery):
    connection = MirroredConnectionField(source="run__connection", required=False, help_text=CONNECTION)
    run = StringField(source="run__in", required=False, max_length=128, help_text="The id of a run.")
    actor = StringField(source="actor__username", required=False, max_length=150, help_text=ACTOR)
    bulk_edit = IntegerField(required=False, min_value=1, max_value=2**63 - 1, help_text="The id of a bulk edit.")
    status = ChoiceField(Edit.Status.choices, required=False, help_text="The status of the edit.")

    def validate_run(self, upstream_id: str) -> list[int]:
        return list(Run.objects.filter(upstream_id=upstream_id).values_list("pk", flat=True))


class BulkEditListQuery(PageQuery):
    connection = MirroredConnectionField(required=False, help_text=CONNECTION)
    actor = StringField(source="actor__username", required=False, max_length=150, help_text=ACTOR)
    status = ChoiceField(BulkEdit.Status.choices, required=False, help_text="The status of the bulk edit.")


class PlannedEditListQuery(PageQuery):
    status = ChoiceField(Edit.Status.choices, required=False, help_text="The status of the edit.")
    plan_result = ChoiceField(Edit.PlanResult.choices, required=False, help_text="What planning found for the run.")


class ThreadListQuery(PageQuery):
    connection = MirroredConnectionField(required=False, help_text=CONNECTION)
    tracked = BooleanField(
        default=True, help_text="Whether syncs read the thread. `false` lists the threads that no sync reads."
    )


class SyncListQuery(PageQuery):
    connection = MirroredConnectionField(required=False, help_text=CONNECTION)
    kind = ChoiceField(Sync.Kind.choices, required=False, help_text="`incremental` or `full`.")
    status = ChoiceField(Sync.Status.choices, required=False, help_text="The status of the sync.")


class ExportListQuery(PageQuery):
    status = ChoiceField(ExportStatus.choices, required=False, help_text="The status of the export.")
