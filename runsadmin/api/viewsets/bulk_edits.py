import datetime as dt
import time
from collections.abc import Mapping
from typing import Any, Protocol

from django.contrib.auth.models import User
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.generics import get_object_or_404
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from runsadmin import log_context, tasks
from runsadmin.api import schema
from runsadmin.api.filters import BulkEditFilter, BulkEditListQuery, PlannedEditFilter, PlannedEditListQuery
from runsadmin.api.idempotency_keys import idempotent_request, record_once
from runsadmin.api.links import Links
from runsadmin.api.problems import ProblemError, ProblemType
from runsadmin.api.serializers.bulk_edits import (
    BulkEditDetailSerializer,
    BulkEditSerializer,
    NewBulkEditSerializer,
    PlanBulkEditBody,
    UndoBulkEditBody,
)
from runsadmin.api.serializers.edits import PlannedEditSerializer
from runsadmin.api.serializers.strict import EmptyBody
from runsadmin.api.viewsets.edits import EDITS
from runsadmin.api.viewsets.strict import StrictViewSet
from runsadmin.bulk_patch import BulkPatch
from runsadmin.engine.schedule import enqueue_unless_waiting
from runsadmin.errors import InvalidMetadata
from runsadmin.models import BulkEdit, EditSource
from runsadmin.services import bulk_edits
from runsadmin.services.bulk_edits import Selection
from runsadmin.services.permissions import Action

# How many seconds a request spends on planning before it leaves the rest to a worker.
PLANNING_SECONDS = 1.0

DONE: Mapping[Any, Any] = {200: BulkEditDetailSerializer, **schema.problems(409)}
QUEUED: Mapping[Any, Any] = {202: BulkEditDetailSerializer, **schema.problems(409)}


class _Verb(Protocol):
    def __call__(self, *, bulk_edit: BulkEdit, actor: User) -> BulkEdit: ...


@extend_schema_view(
    list=extend_schema(operation_id="list_bulk_edits", description="List bulk edits, newest first."),
    retrieve=extend_schema(
        operation_id="retrieve_bulk_edit",
        description="Retrieve a bulk edit: its plan, its progress, and how long it will take.",
    ),
)
class BulkEditViewSet(ListModelMixin, RetrieveModelMixin, StrictViewSet[BulkEdit]):
    queryset = BulkEdit.objects.select_related("actor", "applied_by")
    filter_backends = [BulkEditFilter]
    query_serializers = {"list": BulkEditListQuery, "edits": PlannedEditListQuery}
    required_permissions = {
        "list": Action.VIEW_BULK_EDITS,
        "retrieve": Action.VIEW_BULK_EDITS,
        "edits": Action.VIEW_BULK_EDITS,
        "create": Action.PLAN_BULK_EDITS,
        "undo": Action.PLAN_BULK_EDITS,
        "apply": Action.APPLY_BULK_EDITS,
        "pause": Action.APPLY_BULK_EDITS,
        "resume": Action.APPLY_BULK_EDITS,
        "retry": Action.APPLY_BULK_EDITS,
        # The service also requires the plan permission for a plan, otherwise the apply permission.
        "cancel": Action.VIEW_BULK_EDITS,
    }

    def get_serializer_class(self) -> type[BaseSerializer[Any]]:
        by_action: dict[str, type[BaseSerializer[Any]]] = {"list": BulkEditSerializer, "edits": PlannedEditSerializer}
        return by_action.get(self.action, BulkEditDetailSerializer)

    @extend_schema(
        operation_id="plan_bulk_edit",
        parameters=[schema.IDEMPOTENCY_KEY, schema.LOCATION],
        request=PlanBulkEditBody,
        responses={202: NewBulkEditSerializer, **schema.problems(409, 422)},
    )
    def create(self, request: Request) -> Response:
        """Plan a bulk edit.

        The runs are selected now and frozen. The plan has one edit for each, with the metadata before and after.
        Nothing is sent before the plan is applied, unless `apply` is true.
        """
        body = self.read_body(PlanBulkEditBody)
        idempotent = idempotent_request(request, BulkEdit, "bulk-edits")
        if idempotent is not None and (existing := idempotent.existing()) is not None:
            return self._planned(existing, body)
        selection = _select(body)  # It may take a while and needs no transaction.

        def record() -> BulkEdit:
            return self._plan(selection, body)

        return self._planned(_start(record() if idempotent is None else idempotent.once(record)), body)

    @extend_schema(operation_id="list_edits_of_bulk_edit", responses=PlannedEditSerializer(many=True))
    @action(detail=True, filter_backends=[PlannedEditFilter])
    def edits(self, request: Request, pk: int) -> Response:
        """List the edits of a bulk edit, the last of the plan first."""
        bulk_edit = get_object_or_404(BulkEdit, pk=pk)
        rows: QuerySet[Any] = EDITS.filter(bulk_edit=bulk_edit)
        page = self.paginate_queryset(self.filter_queryset(rows))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    @extend_schema(operation_id="apply_bulk_edit", parameters=[schema.LOCATION], request=None, responses=QUEUED)
    @action(detail=True, methods=["post"])
    def apply(self, request: Request, pk: int) -> Response:
        """Apply a plan.

        Sends the edits of the plan and no others. With a canary, it sends the first few and then pauses.
        """
        return self._act(bulk_edits.apply)

    @extend_schema(operation_id="pause_bulk_edit", request=None, responses=DONE)
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, pk: int) -> Response:
        """Pause a bulk edit.

        Requests in flight finish. Nothing else is sent until it is resumed.
        """
        return self._act(bulk_edits.pause)

    @extend_schema(operation_id="resume_bulk_edit", parameters=[schema.LOCATION], request=None, responses=QUEUED)
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, pk: int) -> Response:
        """Resume a paused bulk edit."""
        return self._act(bulk_edits.resume)

    @extend_schema(operation_id="cancel_bulk_edit", request=None, responses=DONE)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: int) -> Response:
        """Cancel a bulk edit.

        Cancels every edit that has not been sent. Requests in flight finish.
        """
        return self._act(bulk_edits.cancel)

    @extend_schema(operation_id="retry_bulk_edit", parameters=[schema.LOCATION], request=None, responses=QUEUED)
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, pk: int) -> Response:
        """Retry the failed edits of a completed bulk edit."""
        return self._act(bulk_edits.retry)

    @extend_schema(
        operation_id="undo_bulk_edit",
        parameters=[schema.IDEMPOTENCY_KEY, schema.LOCATION],
        request=UndoBulkEditBody,
        responses={202: BulkEditDetailSerializer, **schema.problems(409, 422)},
    )
    @action(detail=True, methods=["post"])
    def undo(self, request: Request, pk: int) -> Response:
        """Plan the undo of a bulk edit.

        The plan puts back what this bulk edit changed, run by run. It is applied like any other plan. This bulk edit
        must have ended. A key that was changed since is left as it is and reported.
        """
        bulk_edit, reason = self.get_object(), self.read_body(UndoBulkEditBody)["reason"]

        def record() -> BulkEdit:
            return bulk_edits.plan_undo(
                bulk_edit=bulk_edit,
                actor=self.user,
                source=EditSource.API,
                reason=reason,
                request_id=log_context.request_id(),
            )

        return self._accepted(_start(record_once(request, BulkEdit, f"undo bulk-edit {bulk_edit.pk}", record)))

    def _plan(self, selection: Selection, body: Mapping[str, Any]) -> BulkEdit:
        wait = body["wait_for_active"]
        try:
            return bulk_edits.plan(
                selection=selection,
                patch=BulkPatch(body["set"], body["remove"], body["rename"]),
                actor=self.user,
                source=EditSource.API,
                reason=body["reason"],
                wait_for_active=None if wait is None else dt.timedelta(seconds=wait),
                canary=body["canary"],
                apply_when_planned=body["apply"],
                request_id=log_context.request_id(),
            )
        except InvalidMetadata as error:
            shown = [vars(problem) | {"field": _field(body, problem.key)} for problem in error.problems]
            raise ProblemError(ProblemType.INVALID_METADATA, str(error), errors=shown) from None

    def _planned(self, bulk_edit: BulkEdit, body: Mapping[str, Any]) -> Response:
        ids = body.get("run_ids", ())
        context = {**self.get_serializer_context(), "duplicates": len(ids) - len(set(ids))}
        return self._accepted(bulk_edit, NewBulkEditSerializer(bulk_edit, context=context))

    def _act(self, verb: _Verb) -> Response:
        self.read_body(EmptyBody)
        bulk_edit = verb(bulk_edit=self.get_object(), actor=self.user)
        if not bulk_edit.is_in_progress:
            return Response(self.get_serializer(bulk_edit).data)
        enqueue_unless_waiting(tasks.push_edits)
        return self._accepted(bulk_edit)

    def _accepted(self, bulk_edit: BulkEdit, serializer: BaseSerializer[Any] | None = None) -> Response:
        return Response(
            (serializer or self.get_serializer(bulk_edit)).data,
            status=status.HTTP_202_ACCEPTED,
            headers={"Location": Links(self.request).bulk_edit(bulk_edit.pk)},
        )


def _select(body: Mapping[str, Any]) -> Selection:
    connection = body.get("connection")
    if "q" in body:
        return bulk_edits.by_search(body["q"], connection=connection)
    return bulk_edits.by_ids(body["run_ids"], connection=connection)


def _start(bulk_edit: BulkEdit) -> BulkEdit:
    """Plans for a moment, so that a small plan is complete at once."""
    bulk_edit = bulk_edits.continue_planning(bulk_edit, until=time.monotonic() + PLANNING_SECONDS)
    if bulk_edit.is_in_progress:
        enqueue_unless_waiting(tasks.push_edits)
    return bulk_edit


def _field(body: Mapping[str, Any], key: str | None) -> str | None:
    """Which field of the body names this key."""
    if key in body["rename"].values():
        return "rename"
    return next((name for name in ("set", "remove", "rename") if key in body[name]), None)
