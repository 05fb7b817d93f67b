"""Bulk edits: planned, looked at, applied, followed, stopped, undone."""

import datetime as dt
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from django.contrib.auth.models import User
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import status
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from runsadmin import log_context, tasks
from runsadmin.api import schema
from runsadmin.api.addresses import Addresses
from runsadmin.api.pagination import BY_ID, page_of
from runsadmin.api.problems import ProblemType, Refused
from runsadmin.api.serializers import (
    BulkEditDetailSerializer,
    BulkEditPage,
    BulkEditSerializer,
    BulkEditsQuery,
    BulkReason,
    EditOfBulkEditPage,
    EditOfBulkEditSerializer,
    EditsOfBulkEditQuery,
    NewBulkEdit,
    NoBody,
    PlannedBulkEditSerializer,
)
from runsadmin.api.views import edits
from runsadmin.api.views.base import View
from runsadmin.bulk_patch import BulkPatch
from runsadmin.engine.schedule import enqueue_unless_waiting
from runsadmin.errors import InvalidMetadata
from runsadmin.models import BulkEdit, EditSource
from runsadmin.services import bulk_edits
from runsadmin.services.bulk_edits import Selection
from runsadmin.services.permissions import Action

ROWS = BulkEdit.objects.select_related("actor", "applied_by")

# How long a request goes on planning before the background does, in seconds.
PLANNING = 1.0

EXAMPLES = [
    OpenApiExample(
        "A search",
        {
            "q": "status:completed metadata.team:ads",
            "set": {"team": "search", "batch": "{model} of {created:%Y-%m}"},
            "remove": ["old"],
            "rename": {"owner": "lead"},
            "reason": "The team was renamed",
            "canary": 10,
        },
        request_only=True,
    ),
    OpenApiExample(
        "Runs by their ids, applied at once",
        {"run_ids": ["run_abc123", "run_abc456"], "set": {"team": "search"}, "reason": "moved", "apply": True},
        request_only=True,
    ),
]


class BulkEdits(View):
    actions = {"GET": Action.VIEW_BULK_EDITS, "POST": Action.PLAN_BULK_EDITS}
    queries = {"GET": BulkEditsQuery}

    @extend_schema(operation_id="list_bulk_edits", responses=BulkEditPage)
    def get(self, request: Request) -> Response:
        """The bulk edits, newest first."""
        rows = ROWS.filter(**self.given("connection", "status", actor="actor__username"))
        page = page_of(rows, order=BY_ID, query=self.query, request=request)
        return Response(page.response(BulkEditSerializer(page.rows, many=True, context={"request": request}).data))

    @extend_schema(
        operation_id="plan_bulk_edit",
        parameters=[schema.IDEMPOTENCY_KEY, schema.LOCATION],
        request=NewBulkEdit,
        examples=EXAMPLES,
        responses={202: PlannedBulkEditSerializer, **schema.problems(409, 422)},
    )
    def post(self, request: Request) -> Response:
        """Plans one change to the metadata of many runs: an edit for each, that shows what it would do.

        The runs are chosen now and frozen. Nothing is sent before the plan is applied, unless `apply` says so.
        """
        wanted = self.body(NewBulkEdit)
        asked = self.asked(BulkEdit, "bulk-edits")
        if asked is not None and (known := asked.known()) is not None:
            return _planned(known, wanted, request)
        selection = _chosen(wanted)  # It may take a while, and needs no transaction.

        def record() -> BulkEdit:
            return self._plan(selection, wanted)

        return _planned(_begun(record() if asked is None else asked.once(record)), wanted, request)

    def _plan(self, selection: Selection, wanted: Mapping[str, Any]) -> BulkEdit:
        wait = wanted["wait_for_active"]
        try:
            return bulk_edits.plan(
                selection=selection,
                patch=BulkPatch(wanted["set"], wanted["remove"], wanted["rename"]),
                actor=self.user,
                source=EditSource.API,
                reason=wanted["reason"],
                wait_for_active=None if wait is None else dt.timedelta(seconds=wait),
                canary=wanted["canary"],
                apply_when_planned=wanted["apply"],
                request_id=log_context.request_id(),
            )
        except InvalidMetadata as error:
            told = [vars(problem) | {"field": _field(wanted, problem.key)} for problem in error.problems]
            raise Refused(ProblemType.INVALID_METADATA, str(error), errors=told) from None


def _chosen(wanted: Mapping[str, Any]) -> Selection:
    connection = wanted.get("connection")
    if "q" in wanted:
        return bulk_edits.by_search(wanted["q"], connection=connection)
    return bulk_edits.by_ids(wanted["run_ids"], connection=connection)


def _field(wanted: Mapping[str, Any], key: str | None) -> str | None:
    """Which field of the body names this key."""
    if key in wanted["rename"].values():
        return "rename"
    return next((name for name in ("set", "remove", "rename") if key in wanted[name]), None)


class OneBulkEdit(View):
    actions = {"GET": Action.VIEW_BULK_EDITS}

    @extend_schema(operation_id="retrieve_bulk_edit", responses={200: BulkEditDetailSerializer, **schema.problems(404)})
    def get(self, request: Request, pk: int) -> Response:
        """One bulk edit: what was planned, how far it is, and how long it will take."""
        return told(find(pk), request)


class EditsOfOne(View):
    actions = {"GET": Action.VIEW_BULK_EDITS}
    queries = {"GET": EditsOfBulkEditQuery}

    @extend_schema(operation_id="list_edits_of_bulk_edit", responses={200: EditOfBulkEditPage, **schema.problems(404)})
    def get(self, request: Request, pk: int) -> Response:
        """Its edits, the last of the plan first: what each run has before and after."""
        rows = edits.ROWS.filter(bulk_edit=find(pk), **self.given("status", "plan_result"))
        page = page_of(rows, order=BY_ID, query=self.query, request=request)
        return Response(
            page.response(EditOfBulkEditSerializer(page.rows, many=True, context={"request": request}).data)
        )


class _Acting(Protocol):
    def __call__(self, *, bulk_edit: BulkEdit, actor: User) -> BulkEdit: ...


class _Act(View):
    actions = {"POST": Action.APPLY_BULK_EDITS}

    def acted(self, act: _Acting, pk: int) -> Response:
        self.body(NoBody)
        bulk_edit = act(bulk_edit=find(pk), actor=self.user)
        if bulk_edit.is_in_progress:
            enqueue_unless_waiting(tasks.push_edits)
        code = status.HTTP_202_ACCEPTED if bulk_edit.is_in_progress else status.HTTP_200_OK
        return told(bulk_edit, self.request, status=code)


def _documented(operation_id: str, responses: int) -> Callable[..., Any]:
    return extend_schema(
        operation_id=operation_id,
        parameters=[schema.LOCATION],
        request=None,
        responses={responses: BulkEditDetailSerializer, **schema.problems(404, 409)},
    )


class Apply(_Act):
    @_documented("apply_bulk_edit", 202)
    def post(self, request: Request, pk: int) -> Response:
        """Has the edits of the plan sent: those, and nothing else. With a canary the first few, and then it pauses."""
        return self.acted(bulk_edits.apply, pk)


class Pause(_Act):
    @_documented("pause_bulk_edit", 200)
    def post(self, request: Request, pk: int) -> Response:
        """What is under way ends; nothing more is sent until it is resumed."""
        return self.acted(bulk_edits.pause, pk)


class Resume(_Act):
    @_documented("resume_bulk_edit", 202)
    def post(self, request: Request, pk: int) -> Response:
        """Goes on with all that is left."""
        return self.acted(bulk_edits.resume, pk)


class Cancel(_Act):
    actions = {"POST": Action.VIEW_BULK_EDITS}  # And, says the service, that to plan for a plan, else that to apply.

    @_documented("cancel_bulk_edit", 200)
    def post(self, request: Request, pk: int) -> Response:
        """Takes back all that was not sent yet. What is under way ends, and tells how."""
        return self.acted(bulk_edits.cancel, pk)


class Retry(_Act):
    @_documented("retry_bulk_edit", 202)
    def post(self, request: Request, pk: int) -> Response:
        """Has the failed edits of one that was completed tried again."""
        return self.acted(bulk_edits.retry, pk)


class Undo(View):
    actions = {"POST": Action.PLAN_BULK_EDITS}

    @extend_schema(
        operation_id="undo_bulk_edit",
        parameters=[schema.IDEMPOTENCY_KEY, schema.LOCATION],
        request=BulkReason,
        responses={202: BulkEditDetailSerializer, **schema.problems(404, 409, 422)},
    )
    def post(self, request: Request, pk: int) -> Response:
        """Plans a bulk edit that puts back what this one changed, run by run. Apply it like any other.

        It must have ended. A key that was changed since is left as it is, and told.
        """
        bulk_edit, reason = find(pk), self.body(BulkReason)["reason"]

        def record() -> BulkEdit:
            return bulk_edits.plan_undo(
                bulk_edit=bulk_edit,
                actor=self.user,
                source=EditSource.API,
                reason=reason,
                request_id=log_context.request_id(),
            )

        undo = _begun(self.once(BulkEdit, f"undo bulk-edit {pk}", record))
        return told(undo, request, status=status.HTTP_202_ACCEPTED)


def _begun(bulk_edit: BulkEdit) -> BulkEdit:
    """Goes on with the plan for a moment."""
    bulk_edit = bulk_edits.continue_planning(bulk_edit, until=time.monotonic() + PLANNING)
    if bulk_edit.is_in_progress:
        enqueue_unless_waiting(tasks.push_edits)
    return bulk_edit


def _planned(bulk_edit: BulkEdit, wanted: Mapping[str, Any], request: Request) -> Response:
    ids = wanted.get("run_ids", ())
    context = {"request": request, "duplicates": len(ids) - len(set(ids))}
    shape = PlannedBulkEditSerializer(bulk_edit, context=context).data
    headers = {"Location": Addresses(request).bulk_edit(bulk_edit.pk)}
    return Response(shape, status=status.HTTP_202_ACCEPTED, headers=headers)


def find(pk: int) -> BulkEdit:
    if (bulk_edit := ROWS.filter(pk=pk).first()) is None:
        raise NotFound
    return bulk_edit


def told(bulk_edit: BulkEdit, request: Request, *, status: int = 200) -> Response:
    shape = BulkEditDetailSerializer(bulk_edit, context={"request": request}).data
    headers = {} if status == 200 else {"Location": Addresses(request).bulk_edit(bulk_edit.pk)}
    return Response(shape, status=status, headers=headers)
