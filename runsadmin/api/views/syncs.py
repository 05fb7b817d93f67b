"""Passes that read runs into the mirror."""

from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from runsadmin.api import schema
from runsadmin.api.addresses import Addresses
from runsadmin.api.lookup import connection_of
from runsadmin.api.pagination import BY_ID, page_of
from runsadmin.api.serializers import NewSync, SyncDetailSerializer, SyncPage, SyncSerializer, SyncsQuery
from runsadmin.api.views.base import View
from runsadmin.models import Sync, Thread
from runsadmin.services import syncs
from runsadmin.services.permissions import Action

ROWS = Sync.objects.select_related("thread", "actor").defer("reading")


class Syncs(View):
    actions = {"GET": Action.VIEW_SYNCS, "POST": Action.SYNC}
    queries = {"GET": SyncsQuery}

    @extend_schema(operation_id="list_syncs", responses=SyncPage)
    def get(self, request: Request) -> Response:
        """The passes, newest first."""
        rows = ROWS.filter(**self.given("connection", "kind", "status"))
        page = page_of(rows, order=BY_ID, query=self.query, request=request)
        return Response(page.response(SyncSerializer(page.rows, many=True, context={"request": request}).data))

    @extend_schema(
        operation_id="start_sync", parameters=[schema.LOCATION], request=NewSync, responses={202: SyncDetailSerializer}
    )
    def post(self, request: Request) -> Response:
        """Has a worker read the runs of the tracked threads, or of one thread.

        One pass of a kind goes on at a time: where one is queued or under way already, that one is answered.
        """
        body = self.body(NewSync)
        connection = connection_of(body)
        thread = None
        if "thread_id" in body:
            thread = Thread.objects.filter(connection=connection, upstream_id=body["thread_id"]).first()
            if thread is None:
                raise ValidationError(
                    {"thread_id": "This thread is not known here. Track it first: POST /api/v1/threads/."},
                    code="unknown_thread",
                )
        sync = syncs.start(connection=connection, kind=body["kind"], actor=self.user, thread=thread)
        return Response(
            SyncDetailSerializer(sync, context={"request": request}).data,
            status=status.HTTP_202_ACCEPTED,
            headers={"Location": Addresses(request).sync(sync.pk)},
        )


class OneSync(View):
    actions = {"GET": Action.VIEW_SYNCS}

    @extend_schema(operation_id="retrieve_sync", responses={200: SyncDetailSerializer, **schema.problems(404)})
    def get(self, request: Request, pk: int) -> Response:
        """One pass: how far it is, what it wrote, and what it could not read."""
        if (sync := ROWS.filter(pk=pk).first()) is None:
            raise NotFound
        return Response(SyncDetailSerializer(sync, context={"request": request}).data)
