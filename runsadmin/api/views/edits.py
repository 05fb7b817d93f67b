"""The log of edits, and what people do with one of them."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from runsadmin import log_context
from runsadmin.api import schema
from runsadmin.api.addresses import Addresses
from runsadmin.api.outcomes import is_done
from runsadmin.api.pagination import BY_ID, page_of
from runsadmin.api.serializers import EditPage, EditSerializer, EditsQuery, NoBody, Reason, Resolution
from runsadmin.api.views.base import View
from runsadmin.models import Edit, Run
from runsadmin.services import edits
from runsadmin.services.permissions import Action

ROWS = Edit.objects.select_related("run", "actor").defer("run__raw")


class Edits(View):
    actions = {"GET": Action.VIEW_EDITS}
    queries = {"GET": EditsQuery}

    @extend_schema(operation_id="list_edits", responses=EditPage)
    def get(self, request: Request) -> Response:
        """The log of edits, newest first."""
        conditions = self.given("status", "bulk_edit", connection="run__connection", actor="actor__username")
        if "run" in self.query:
            conditions["run__in"] = list(Run.objects.filter(upstream_id=self.query["run"]).values_list("pk", flat=True))
        page = page_of(ROWS.filter(**conditions), order=BY_ID, query=self.query, request=request)
        return Response(page.response(EditSerializer(page.rows, many=True, context={"request": request}).data))


class OneEdit(View):
    actions = {"GET": Action.VIEW_EDITS}

    @extend_schema(operation_id="retrieve_edit", responses={200: EditSerializer, **schema.problems(404)})
    def get(self, request: Request, pk: int) -> Response:
        """One edit: who, when, why, before, after, and what became of it."""
        return told(find_edit(pk), request)


class _Act(View):
    actions = {"POST": Action.EDIT_METADATA}


class Undo(_Act):
    @extend_schema(
        operation_id="undo_edit",
        parameters=[schema.LOCATION],
        request=Reason,
        responses={201: EditSerializer, 202: EditSerializer, **schema.problems(404, 409, 422, 424)},
    )
    def post(self, request: Request, pk: int) -> Response:
        """Makes an edit that puts back, key by key, what this one changed.

        A key that was changed since is left as it is, and told; with nothing left to put back, the new edit is skipped.
        """
        edit = edits.undo(
            edit=find_edit(pk),
            actor=self.user,
            source=Edit.Source.API,
            reason=self.body(Reason).get("reason", ""),
            request_id=log_context.request_id(),
        )
        return pushed(edit, request)


class Resolve(_Act):
    @extend_schema(
        operation_id="resolve_edit",
        parameters=[schema.LOCATION],
        request=Resolution,
        responses={201: EditSerializer, 202: EditSerializer, **schema.problems(404, 409, 422, 424)},
    )
    def post(self, request: Request, pk: int) -> Response:
        """Makes an edit that settles a conflict, by somebody who saw what the others wrote."""
        body = self.body(Resolution)
        edit = edits.resolve(
            edit=find_edit(pk),
            patch=body["metadata"],
            actor=self.user,
            source=Edit.Source.API,
            reason=body.get("reason", ""),
            request_id=log_context.request_id(),
        )
        return pushed(edit, request)


class Retry(_Act):
    @extend_schema(
        operation_id="retry_edit",
        parameters=[schema.LOCATION],
        request=None,
        responses={200: EditSerializer, 202: EditSerializer, **schema.problems(404, 409, 422, 424)},
    )
    def post(self, request: Request, pk: int) -> Response:
        """Has a failed edit tried again."""
        self.body(NoBody)
        edit = edits.retry(edit=find_edit(pk), actor=self.user)
        return pushed(edit, request, done=status.HTTP_200_OK)


class Cancel(_Act):
    @extend_schema(
        operation_id="cancel_edit", request=None, responses={200: EditSerializer, **schema.problems(404, 409)}
    )
    def post(self, request: Request, pk: int) -> Response:
        """Takes an edit back that was not sent yet."""
        self.body(NoBody)
        return told(edits.cancel(edit=find_edit(pk), actor=self.user), request)


def find_edit(pk: int) -> Edit:
    if (edit := ROWS.filter(pk=pk).first()) is None:
        raise NotFound
    return edit


def told(edit: Edit, request: Request, **options: Any) -> Response:
    return Response(EditSerializer(edit, context={"request": request}).data, **options)


def pushed(edit: Edit, request: Request, *, done: int = status.HTTP_201_CREATED) -> Response:
    """Waits a few seconds for what becomes of it, as a PATCH of the run does."""
    if not edit.has_ended:
        edit = edits.push_within(edit)
    code = done if is_done(edit, request) else status.HTTP_202_ACCEPTED
    headers = {} if code == status.HTTP_200_OK else {"Location": Addresses(request).edit(edit.pk)}
    return told(edit, request, status=code, headers=headers)
