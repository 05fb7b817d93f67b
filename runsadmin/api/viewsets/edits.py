from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from runsadmin.api import schema
from runsadmin.api.edit_responses import raise_for_status
from runsadmin.api.filters import EditListQuery
from runsadmin.api.serializers.edits import (
    EditSerializer,
    ReleasedEditsSerializer,
    ReleaseEditsBody,
    ResolveEditBody,
    UndoEditBody,
)
from runsadmin.api.viewsets.strict import StrictViewSet
from runsadmin.models import Edit
from runsadmin.services import edits
from runsadmin.services.permissions import Action

EDITS = Edit.objects.select_related("run", "actor").defer("run__raw")

NEW_EDIT = schema.responses(EditSerializer, 201, 202, 409, 422, 424)


class EditViewSet(ListModelMixin, RetrieveModelMixin, StrictViewSet[Edit]):
    queryset = EDITS
    serializer_class = EditSerializer
    query_serializers = {"list": EditListQuery}
    body_serializers = {"undo": UndoEditBody, "resolve": ResolveEditBody, "release_all": ReleaseEditsBody}
    required_permissions = {
        **dict.fromkeys(("list", "retrieve"), (Action.VIEW_EDITS,)),
        **dict.fromkeys(("undo", "resolve", "retry", "release", "cancel"), (Action.VIEW_EDITS, Action.EDIT_METADATA)),
        "release_all": (Action.EDIT_METADATA, Action.HOLD),
    }

    @extend_schema(responses=NEW_EDIT)
    @action(detail=True, methods=["post"])
    def undo(self, request: Request, pk: int) -> Response:
        """Undo an edit.

        Makes an edit that restores what this one changed, for each key. A key that was changed since then is left as it
        is and reported in `detail`. If no key can be restored, the new edit is skipped.
        """
        edit = edits.undo(edit=self.get_object(), reason=self.body["reason"], **self.origin)
        return self._push(edit, status.HTTP_201_CREATED)

    @extend_schema(responses=NEW_EDIT)
    @action(detail=True, methods=["post"])
    def resolve(self, request: Request, pk: int) -> Response:
        """Resolve a conflict with a new edit, whose base is the metadata that caused the conflict."""
        edit = edits.resolve(
            edit=self.get_object(), patch=self.body["metadata"], reason=self.body["reason"], **self.origin
        )
        return self._push(edit, status.HTTP_201_CREATED)

    @extend_schema(responses=schema.responses(EditSerializer, 200, 202, 409, 422, 424))
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, pk: int) -> Response:
        """Retry a failed edit."""
        return self._push(edits.retry(edit=self.get_object(), actor=self.user), status.HTTP_200_OK)

    @extend_schema(responses=schema.responses(EditSerializer, 200, 409))
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: int) -> Response:
        """Cancel an edit that has not been sent."""
        return self.respond(edits.cancel(edit=self.get_object(), actor=self.user))

    @extend_schema(responses=schema.responses(EditSerializer, 200, 202, 409, 422, 424))
    @action(detail=True, methods=["post"])
    def release(self, request: Request, pk: int) -> Response:
        """Release an edit that has been waiting since a backup was restored."""
        return self._push(edits.release(edit=self.get_object(), actor=self.user), status.HTTP_200_OK)

    @extend_schema(responses=schema.responses(ReleasedEditsSerializer, 200, 409))
    @action(detail=False, methods=["post"], url_path="release", url_name="release-all")
    def release_all(self, request: Request) -> Response:
        """Release a connection after a restore.

        Also releases all edits that have been waiting since then, except those of bulk edits, which are resumed.
        """
        connection = self.body["connection"]
        count = edits.release_all(connection=connection, actor=self.user)
        return Response(ReleasedEditsSerializer({"connection": connection, "released_edits": count}).data)

    def _push(self, edit: Edit, status_when_done: int) -> Response:
        """Waits a few seconds for the outcome, like a PATCH of the run."""
        if not edit.has_ended:
            edit = edits.push_within(edit)
        raise_for_status(edit, self.request)
        return self.respond(edit, status_when_done if edit.has_ended else status.HTTP_202_ACCEPTED)
