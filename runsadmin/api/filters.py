"""The filters of lists: the query parameters of each list and the lookups that they apply."""

from collections.abc import Mapping
from typing import Any, ClassVar

from django.db.models import QuerySet
from rest_framework import serializers
from rest_framework.filters import BaseFilterBackend
from rest_framework.request import Request

from runsadmin import conf
from runsadmin.api.fields import ConnectionField, SearchField, StringField
from runsadmin.api.serializers.strict import PageQuery
from runsadmin.models import BulkEdit, Edit, Run, Sync, Thread

CONNECTION = "Only rows of the connection with this alias."
ACTOR = "Only rows of the account with this name."


class QueryFilter(BaseFilterBackend):
    """Applies those parameters of the view's query that have a lookup here."""

    lookups: ClassVar[Mapping[str, str]]

    def filter_queryset(self, request: Request, queryset: QuerySet[Any], view: Any) -> QuerySet[Any]:
        return queryset.filter(**self.filter_kwargs(view.query))

    def filter_kwargs(self, query: Mapping[str, Any]) -> dict[str, Any]:
        return {lookup: query[name] for name, lookup in self.lookups.items() if name in query}


class RunListQuery(PageQuery):
    q = SearchField(required=False, allow_blank=True, help_text="A search: `status:failed metadata.team:ads`.")
    connection = ConnectionField(required=False, help_text=CONNECTION)
    status = StringField(
        required=False, max_length=64, help_text="As upstream gives it: `completed`, `failed` and others."
    )
    model = StringField(required=False, max_length=256, help_text="The name of the model, such as `gpt-4o`.")
    assistant_id = StringField(required=False, max_length=128, help_text="The id of the assistant.")
    thread_id = StringField(required=False, max_length=128, help_text="The id of the thread.")
    created_after = serializers.DateTimeField(
        required=False, help_text="Created at this time or later. UTC unless it has an offset."
    )
    created_before = serializers.DateTimeField(
        required=False, help_text="Created before this time. UTC unless it has an offset."
    )


class RunFilter(QueryFilter):
    """All but `q`, which the viewset applies."""

    lookups = {
        "connection": "connection",
        "status": "status",
        "model": "model",
        "assistant_id": "assistant_id",
        "created_after": "created_at__gte",
        "created_before": "created_at__lt",
    }

    def filter_kwargs(self, query: Mapping[str, Any]) -> dict[str, Any]:
        conditions = super().filter_kwargs(query)
        if {"created_after", "created_before"} & query.keys():
            conditions["created_at_is_known"] = True
        if "thread_id" in query:
            # With the keys of the threads, the index on thread and time serves the page.
            threads = Thread.objects.filter(connection__in=conf.connections(), upstream_id=query["thread_id"])
            conditions["thread__in"] = list(threads.values_list("pk", flat=True))
        return conditions


class EditListQuery(PageQuery):
    connection = ConnectionField(required=False, help_text=CONNECTION)
    run = StringField(required=False, max_length=128, help_text="The id of a run.")
    actor = StringField(required=False, max_length=150, help_text=ACTOR)
    bulk_edit = serializers.IntegerField(
        required=False, min_value=1, max_value=2**63 - 1, help_text="The id of a bulk edit."
    )
    status = serializers.ChoiceField(Edit.Status.choices, required=False, help_text="The status of the edit.")


class EditFilter(QueryFilter):
    lookups = {
        "connection": "run__connection",
        "actor": "actor__username",
        "bulk_edit": "bulk_edit",
        "status": "status",
    }

    def filter_kwargs(self, query: Mapping[str, Any]) -> dict[str, Any]:
        conditions = super().filter_kwargs(query)
        if "run" in query:
            conditions["run__in"] = list(Run.objects.filter(upstream_id=query["run"]).values_list("pk", flat=True))
        return conditions


class BulkEditListQuery(PageQuery):
    connection = ConnectionField(required=False, help_text=CONNECTION)
    actor = StringField(required=False, max_length=150, help_text=ACTOR)
    status = serializers.ChoiceField(BulkEdit.Status.choices, required=False, help_text="The status of the bulk edit.")


class BulkEditFilter(QueryFilter):
    lookups = {"connection": "connection", "actor": "actor__username", "status": "status"}


class PlannedEditListQuery(PageQuery):
    status = serializers.ChoiceField(Edit.Status.choices, required=False, help_text="The status of the edit.")
    plan_result = serializers.ChoiceField(
        Edit.PlanResult.choices, required=False, help_text="What planning found for the run."
    )


class PlannedEditFilter(QueryFilter):
    lookups = {"status": "status", "plan_result": "plan_result"}


class ThreadListQuery(PageQuery):
    connection = ConnectionField(required=False, help_text=CONNECTION)
    tracked = serializers.BooleanField(
        default=True, help_text="Whether syncs read the thread. `false` lists those that are no longer tracked."
    )


class ThreadFilter(QueryFilter):
    lookups = {"connection": "connection", "tracked": "tracked"}


class SyncListQuery(PageQuery):
    connection = ConnectionField(required=False, help_text=CONNECTION)
    kind = serializers.ChoiceField(Sync.Kind.choices, required=False, help_text="`incremental` or `full`.")
    status = serializers.ChoiceField(Sync.Status.choices, required=False, help_text="The status of the sync.")


class SyncFilter(QueryFilter):
    lookups = {"connection": "connection", "kind": "kind", "status": "status"}
