from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.exceptions import ValidationError
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from runsadmin.api import schema
from runsadmin.api.filters import SyncListQuery
from runsadmin.api.serializers.syncs import StartSyncBody, SyncDetailSerializer, SyncSerializer
from runsadmin.api.viewsets.strict import StrictViewSet
from runsadmin.models import Sync, Thread
from runsadmin.services import syncs
from runsadmin.services.permissions import Action


class SyncViewSet(ListModelMixin, RetrieveModelMixin, StrictViewSet[Sync]):
    queryset = Sync.objects.select_related("thread", "actor").defer("reading")
    serializer_class = SyncDetailSerializer
    serializer_classes = {"list": SyncSerializer}
    query_serializers = {"list": SyncListQuery}
    body_serializers = {"create": StartSyncBody}
    required_permissions = {
        **dict.fromkeys(("list", "retrieve"), (Action.VIEW_SYNCS,)),
        "create": (Action.VIEW_SYNCS, Action.SYNC),
    }

    @extend_schema(operation_id="start_sync", responses=schema.responses(SyncDetailSerializer, 202, 409))
    def create(self, request: Request) -> Response:
        """Start a sync.

        A worker reads the runs of all tracked threads, or of one thread. If a sync of this kind is already queued,
        running or paused, it is returned.
        """
        connection, thread = self.body["connection"], None
        if "thread_id" in self.body:
            thread = Thread.objects.filter(connection=connection, upstream_id=self.body["thread_id"]).first()
            if thread is None:
                raise ValidationError(
                    {"thread_id": "Unknown thread. Track it first: POST /api/v1/threads/."}, code="unknown_thread"
                )
        sync = syncs.start(connection=connection, kind=self.body["kind"], actor=self.user, thread=thread)
        return self.respond(sync, status.HTTP_202_ACCEPTED)
