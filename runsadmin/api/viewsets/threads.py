from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import status
from rest_framework.exceptions import ValidationError
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from runsadmin.api import schema
from runsadmin.api.filters import ThreadFilter, ThreadListQuery
from runsadmin.api.links import Links
from runsadmin.api.pagination import CreatedAtPagination
from runsadmin.api.serializers.strict import ConnectionQuery
from runsadmin.api.serializers.threads import ThreadSerializer, TrackedThreadsSerializer, TrackThreadsBody
from runsadmin.api.viewsets.upstream_id import UpstreamIdViewSet, connection_of
from runsadmin.models import Thread
from runsadmin.services import threads
from runsadmin.services.permissions import Action


@extend_schema_view(
    list=extend_schema(operation_id="list_threads", description="List tracked threads, the last added first."),
    retrieve=extend_schema(
        operation_id="retrieve_thread",
        description="Retrieve a thread: whether it is tracked, and when it was last read.",
        responses={200: ThreadSerializer, **schema.problems(409)},
    ),
)
class ThreadViewSet(ListModelMixin, RetrieveModelMixin, UpstreamIdViewSet[Thread]):
    queryset = Thread.objects.all()
    serializer_class = ThreadSerializer
    pagination_class = CreatedAtPagination
    filter_backends = [ThreadFilter]
    lookup_url_kwarg = "thread_id"
    query_serializers = {"list": ThreadListQuery, "retrieve": ConnectionQuery, "destroy": ConnectionQuery}
    required_permissions = {
        "list": Action.VIEW_THREADS,
        "retrieve": Action.VIEW_THREADS,
        "create": Action.TRACK_THREADS,
        "destroy": Action.UNTRACK_THREADS,
    }

    @extend_schema(
        operation_id="track_threads",
        request=TrackThreadsBody,
        responses={200: TrackedThreadsSerializer, 201: TrackedThreadsSerializer},
    )
    def create(self, request: Request) -> Response:
        """Track one thread or many.

        201 when at least one was added, 200 when all were tracked already. Invalid ids are reported in `results`; it is
        a 400 when all are invalid.
        """
        body = self.read_body(TrackThreadsBody)
        connection = connection_of(body)
        ids = body.get("thread_ids") or [body["thread_id"]]
        tracked = threads.track(connection=connection, thread_ids=ids, actor=self.user)
        if not (tracked.added or tracked.already):
            field = "thread_ids" if "thread_ids" in body else "thread_id"
            raise ValidationError({field: "Not a valid thread id."}, code="invalid_id")
        links = Links(request)
        results = [
            {
                "thread_id": thread_id,
                "outcome": outcome,
                "url": None
                if outcome == "invalid"
                else links.thread(Thread(connection=connection, upstream_id=thread_id)),
            }
            for outcome in ("added", "already", "invalid")
            for thread_id in getattr(tracked, outcome)
        ]
        return Response(
            {"connection": connection, "results": results, "duplicates": tracked.duplicates},
            status=status.HTTP_201_CREATED if tracked.added else status.HTTP_200_OK,
        )

    @extend_schema(operation_id="untrack_thread", responses={204: None, **schema.problems(409)})
    def destroy(self, request: Request, thread_id: str) -> Response:
        """Stop tracking a thread. Its runs stay."""
        threads.untrack(thread=self.get_object(), actor=self.user)
        return Response(status=status.HTTP_204_NO_CONTENT)
