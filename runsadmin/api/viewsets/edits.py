from collections.abc import Mapping
from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from runsadmin import log_context
from runsadmin.api import schema
from runsadmin.api.edit_responses import raise_for_status
from runsadmin.api.filters import EditFilter, EditListQuery
from runsadmin.api.links import Links
from runsadmin.api.serializers.edits import EditSerializer, ResolveEditBody, UndoEditBody
from runsadmin.api.serializers.strict import EmptyBody
from runsadmin.api.viewsets.strict import StrictViewSet
from runsadmin.models import Edit
from runsadmin.services import edits
from runsadmin.services.permissions import Action

EDITS = Edit.objects.select_related("run", "actor").defer("run__raw")

NEW_EDIT: Mapping[Any, Any] = {201: EditSerializer, 202: EditSerializer, **schema.problems(409, 422, 424)}


@extend_schema_view(
    list=extend_schema(operation_id="list_edits", description="List edits, newest first."),
    retrieve=extend_schema(
        operation_id="retrieve_edit",
        description="Retrieve an edit: who made it, when and why, the metadata before and after, and its status.",
    ),
)
class EditViewSet(ListModelMixin, RetrieveModelMixin, StrictViewSet[Edit]):
    queryset = EDITS
    serializer_class = EditSerializer
    filter_backends = [EditFilter]
    query_serializers = {"list": EditListQuery}
    required_permissions = {
        "list": Action.VIEW_EDITS,
        "retrieve": Action.VIEW_EDITS,
        "undo": Action.EDIT_METADATA,
        "resolve": Action.EDIT_METADATA,
        "retry": Action.EDIT_METADATA,
        "cancel": Action.EDIT_METADATA,
    }

    @extend_schema(operation_id="undo_edit", parameters=[schema.LOCATION], request=UndoEditBody, responses=NEW_EDIT)
    @action(detail=True, methods=["post"])
    def undo(self, request: Request, pk: int) -> Response:
        """Undo an edit.

        Makes an edit that puts back what this one changed, key by key. A key that was changed since is left as it is
        and reported in `detail`. If no key is left, the new edit is skipped.
        """
        edit = edits.undo(
            edit=self.get_object(),
            actor=self.user,
            source=Edit.Source.API,
            reason=self.read_body(UndoEditBody).get("reason", ""),
            request_id=log_context.request_id(),
        )
        return self._push(edit, status.HTTP_201_CREATED)

    @extend_schema(
        operation_id="resolve_edit", parameters=[schema.LOCATION], request=ResolveEditBody, responses=NEW_EDIT
    )
    @action(detail=True, methods=["post"])
    def resolve(self, request: Request, pk: int) -> Response:
        """Resolve a conflict.

        Makes an edit whose base is the metadata that caused the conflict.
        """
        body = self.read_body(ResolveEditBody)
        edit = edits.resolve(
            edit=self.get_object(),
            patch=body["metadata"],
            actor=self.user,
            source=Edit.Source.API,
            reason=body.get("reason", ""),
            request_id=log_context.request_id(),
        )
        return self._push(edit, status.HTTP_201_CREATED)

    @extend_schema(
        operation_id="retry_edit",
        parameters=[schema.LOCATION],
        request=None,
        responses={200: EditSerializer, 202: EditSerializer, **schema.problems(409, 422, 424)},
    )
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, pk: int) -> Response:
        """Retry a failed edit."""
        self.read_body(EmptyBody)
        return self._push(edits.retry(edit=self.get_object(), actor=self.user), status.HTTP_200_OK)

    @extend_schema(operation_id="cancel_edit", request=None, responses={200: EditSerializer, **schema.problems(409)})
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: int) -> Response:
        """Cancel an edit that has not been sent."""
        self.read_body(EmptyBody)
        return Response(self.get_serializer(edits.cancel(edit=self.get_object(), actor=self.user)).data)

    def _push(self, edit: Edit, status_when_done: int) -> Response:
        """Waits a few seconds for the outcome, as a PATCH of the run does."""
        if not edit.has_ended:
            edit = edits.push_within(edit)
        raise_for_status(edit, self.request)
        code = status_when_done if edit.has_ended else status.HTTP_202_ACCEPTED
        headers = {} if code == status.HTTP_200_OK else {"Location": Links(self.request).edit(edit.pk)}
        return Response(self.get_serializer(edit).data, status=code, headers=headers)
