from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import status
from rest_framework.exceptions import ValidationError
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from runsadmin.api import schema
from runsadmin.api.filters import SyncFilter, SyncListQuery
from runsadmin.api.links import Links
from runsadmin.api.serializers.syncs import StartSyncBody, SyncDetailSerializer, SyncSerializer
from runsadmin.api.viewsets.strict import StrictViewSet
from runsadmin.api.viewsets.upstream_id import connection_of
from runsadmin.models import Sync, Thread
from runsadmin.services import syncs
from runsadmin.services.permissions import Action


@extend_schema_view(
    list=extend_schema(operation_id="list_syncs", description="List syncs, newest first."),
    retrieve=extend_schema(
        operation_id="retrieve_sync",
        description="Retrieve a sync: its progress, counts and first 100 errors.",
        responses=SyncDetailSerializer,
    ),
)
class SyncViewSet(ListModelMixin, RetrieveModelMixin, StrictViewSet[Sync]):
    queryset = Sync.objects.select_related("thread", "actor").defer("reading")
    filter_backends = [SyncFilter]
    query_serializers = {"list": SyncListQuery}
    required_permissions = {"list": Action.VIEW_SYNCS, "retrieve": Action.VIEW_SYNCS, "create": Action.SYNC}

    def get_serializer_class(self) -> type[BaseSerializer[Sync]]:
        return SyncSerializer if self.action == "list" else SyncDetailSerializer

    @extend_schema(
        operation_id="start_sync",
        parameters=[schema.LOCATION],
        request=StartSyncBody,
        responses={202: SyncDetailSerializer},
    )
    def create(self, request: Request) -> Response:
        """Start a sync.

        A worker reads the runs of all tracked threads, or of one thread. Where a sync of this kind is queued or running
        already, that one is returned.
        """
        body = self.read_body(StartSyncBody)
        connection = connection_of(body)
        thread = None
        if "thread_id" in body:
            thread = Thread.objects.filter(connection=connection, upstream_id=body["thread_id"]).first()
            if thread is None:
                raise ValidationError(
                    {"thread_id": "Unknown thread. Track it first: POST /api/v1/threads/."}, code="unknown_thread"
                )
        sync = syncs.start(connection=connection, kind=body["kind"], actor=self.user, thread=thread)
        return Response(
            self.get_serializer(sync).data,
            status=status.HTTP_202_ACCEPTED,
            headers={"Location": Links(request).sync(sync.pk)},
        )
