import datetime as dt
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from runsadmin import tasks
from runsadmin.api import schema
from runsadmin.api.filters import BulkEditListQuery, PlannedEditListQuery
from runsadmin.api.idempotency_keys import idempotent_request
from runsadmin.api.problems import ProblemError, ProblemType
from runsadmin.api.serializers.bulk_edits import (
    BulkEditDetailSerializer,
    BulkEditSerializer,
    NewBulkEditSerializer,
    PlanBulkEditBody,
    UndoBulkEditBody,
)
from runsadmin.api.serializers.edits import PlannedEditSerializer
from runsadmin.api.viewsets.edits import EDITS
from runsadmin.api.viewsets.strict import StrictViewSet
from runsadmin.bulk_patch import BulkPatch
from runsadmin.errors import InvalidMetadata
from runsadmin.models import BulkEdit
from runsadmin.services import bulk_edits
from runsadmin.services.bulk_edits import Selection
from runsadmin.services.permissions import Action

DONE = schema.responses(BulkEditDetailSerializer, 200, 409)
QUEUED = schema.responses(BulkEditDetailSerializer, 202, 409)


class BulkEditViewSet(ListModelMixin, RetrieveModelMixin, StrictViewSet[BulkEdit]):
    queryset = BulkEdit.objects.select_related("actor", "applied_by")
    serializer_class = BulkEditDetailSerializer
    serializer_classes = {"list": BulkEditSerializer, "create": NewBulkEditSerializer, "edits": PlannedEditSerializer}
    query_serializers = {"list": BulkEditListQuery, "edits": PlannedEditListQuery}
    body_serializers = {"create": PlanBulkEditBody, "undo": UndoBulkEditBody}
    required_permissions = {
        **dict.fromkeys(("list", "retrieve", "edits"), (Action.VIEW_BULK_EDITS,)),
        # A search selects runs, and the response says how many there are.
        "create": (Action.VIEW_BULK_EDITS, Action.VIEW_RUNS, Action.PLAN_BULK_EDITS),
        "undo": (Action.VIEW_BULK_EDITS, Action.PLAN_BULK_EDITS),
        **dict.fromkeys(("apply", "pause", "resume", "retry"), (Action.VIEW_BULK_EDITS, Action.APPLY_BULK_EDITS)),
        # The service requires another permission: to plan if this is only a plan, otherwise to apply.
        "cancel": (Action.VIEW_BULK_EDITS,),
    }

    @extend_schema(
        operation_id="plan_bulk_edit",
        parameters=[schema.IDEMPOTENCY_KEY],
        responses=schema.responses(NewBulkEditSerializer, 202, 409, 422),
    )
    def create(self, request: Request) -> Response:
        """Plan a bulk edit.

        The selection is made now and then frozen. The plan has one edit for each run, with the metadata before and
        after. Nothing is sent until the plan is applied. If `apply` is true, that happens as soon as it is complete.
        """
        idempotent = idempotent_request(request, BulkEdit, "bulk-edits")
        # Select the runs before `once`, since this may take a while and needs no transaction.
        bulk_edit = idempotent.existing() or tasks.plan_and_enqueue(
            idempotent.once(partial(self._plan, _select(self.body)))
        )
        return self.respond(bulk_edit, status.HTTP_202_ACCEPTED)

    @extend_schema(operation_id="list_edits_of_bulk_edit", responses=PlannedEditSerializer(many=True))
    @action(detail=True)
    def edits(self, request: Request, pk: int) -> Response:
        """List the edits of a bulk edit, in reverse order of planning."""
        rows: QuerySet[Any] = EDITS.filter(bulk_edit=self.get_object())
        page = self.paginate_queryset(self.filter_queryset(rows))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    @extend_schema(responses=QUEUED)
    @action(detail=True, methods=["post"])
    def apply(self, request: Request, pk: int) -> Response:
        """Apply a plan. This sends its edits and no others: with a canary, only the first few, followed by a pause."""
        return self._act(bulk_edits.apply)

    @extend_schema(responses=DONE)
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, pk: int) -> Response:
        """Pause a bulk edit. Requests in flight finish. Nothing else is sent until it is resumed."""
        return self._act(bulk_edits.pause)

    @extend_schema(responses=QUEUED)
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, pk: int) -> Response:
        """Resume a paused bulk edit."""
        return self._act(bulk_edits.resume)

    @extend_schema(responses=DONE)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: int) -> Response:
        """Cancel a bulk edit. This cancels every edit that has not been sent. Requests in flight finish."""
        return self._act(bulk_edits.cancel)

    @extend_schema(responses=QUEUED)
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, pk: int) -> Response:
        """Retry the failed edits of a completed bulk edit."""
        return self._act(bulk_edits.retry)

    @extend_schema(
        parameters=[schema.IDEMPOTENCY_KEY],
        responses=schema.responses(BulkEditDetailSerializer, 202, 409, 422),
    )
    @action(detail=True, methods=["post"])
    def undo(self, request: Request, pk: int) -> Response:
        """Plan the undo of a bulk edit.

        The plan restores what this bulk edit changed, for each run. It is applied like any other plan. This bulk edit
        must have ended. A key that was changed since then is left as it is and reported.
        """
        bulk_edit = self.get_object()
        idempotent = idempotent_request(request, BulkEdit, f"undo bulk-edit {bulk_edit.pk}")
        plan_undo = partial(bulk_edits.plan_undo, bulk_edit=bulk_edit, reason=self.body["reason"], **self.origin)
        undo = idempotent.existing() or tasks.plan_and_enqueue(idempotent.once(plan_undo))
        return self.respond(undo, status.HTTP_202_ACCEPTED)

    def _plan(self, selection: Selection) -> BulkEdit:
        body, wait = self.body, self.body["wait_for_active"]
        try:
            return bulk_edits.plan(
                selection=selection,
                patch=BulkPatch(body["set"], body["remove"], body["rename"]),
                reason=body["reason"],
                wait_for_active=None if wait is None else dt.timedelta(seconds=wait),
                canary=body["canary"],
                apply_when_planned=body["apply"],
                **self.origin,
            )
        except InvalidMetadata as invalid:
            shown = [vars(error) | {"field": _field(body, error.key)} for error in invalid.errors]
            raise ProblemError(ProblemType.INVALID_METADATA, str(invalid), errors=shown) from None

    def _act(self, verb: Callable[..., BulkEdit]) -> Response:
        bulk_edit = verb(bulk_edit=self.get_object(), actor=self.user)
        tasks.enqueue_if_in_progress(bulk_edit)
        return self.respond(bulk_edit, status.HTTP_202_ACCEPTED if bulk_edit.is_in_progress else status.HTTP_200_OK)


def _select(body: Mapping[str, Any]) -> Selection:
    if "q" in body:
        return bulk_edits.by_search(body["q"], connection=body["connection"], tz=body["tz"])
    return bulk_edits.by_ids(body["run_ids"], connection=body["connection"])


def _field(body: Mapping[str, Any], key: str | None) -> str | None:
    """Which field of the body names this key."""
    if key in body["rename"].values():
        return "rename"
    return next((name for name in ("set", "remove", "rename") if key in body[name]), None)
