from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import status
from rest_framework.exceptions import ValidationError
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from runsadmin.api import schema
from runsadmin.api.filters import ThreadListQuery
from runsadmin.api.links import Links
from runsadmin.api.pagination import CreatedAtPagination
from runsadmin.api.serializers.strict import ConnectionQuery
from runsadmin.api.serializers.threads import ThreadSerializer, TrackedThreadsSerializer, TrackThreadsBody
from runsadmin.api.viewsets.upstream_id import UpstreamIdViewSet
from runsadmin.models import Thread
from runsadmin.services import threads
from runsadmin.services.permissions import Action


@extend_schema_view(retrieve=extend_schema(responses=schema.responses(ThreadSerializer, 200, 409)))
class ThreadViewSet(ListModelMixin, RetrieveModelMixin, UpstreamIdViewSet[Thread]):
    queryset = Thread.objects.all()
    serializer_class = ThreadSerializer
    pagination_class = CreatedAtPagination
    lookup_url_kwarg = "thread_id"
    query_serializers = {"list": ThreadListQuery, "retrieve": ConnectionQuery, "destroy": ConnectionQuery}
    body_serializers = {"create": TrackThreadsBody}
    required_permissions = {
        **dict.fromkeys(("list", "retrieve"), (Action.VIEW_THREADS,)),
        "create": (Action.VIEW_THREADS, Action.TRACK_THREADS),
        "destroy": (Action.VIEW_THREADS, Action.UNTRACK_THREADS),
    }

    @extend_schema(operation_id="track_threads", responses=schema.responses(TrackedThreadsSerializer, 200, 201, 409))
    def create(self, request: Request) -> Response:
        """Track one thread or many.

        201: at least one thread was added. 200: all valid ids were already tracked. 400: all ids are invalid. If only
        some ids are invalid, `results` says which.
        """
        connection = self.body["connection"]
        ids = self.body.get("thread_ids") or [self.body["thread_id"]]
        tracked = threads.track(connection=connection, thread_ids=ids, actor=self.user)
        if not (tracked.added or tracked.already):
            field = "thread_ids" if "thread_ids" in self.body else "thread_id"
            raise ValidationError({field: "Not a valid thread id."}, code="invalid_id")
        links = Links(request)

        def url(thread_id: str) -> str:
            return links.thread(Thread(connection=connection, upstream_id=thread_id))

        results = [
            *({"thread_id": id, "outcome": "added", "url": url(id)} for id in tracked.added),
            *({"thread_id": id, "outcome": "already", "url": url(id)} for id in tracked.already),
            *({"thread_id": id, "outcome": "invalid", "url": None} for id in tracked.invalid),
        ]
        return Response(
            {"connection": connection, "results": results, "duplicates": tracked.duplicates},
            status=status.HTTP_201_CREATED if tracked.added else status.HTTP_200_OK,
        )

    @extend_schema(operation_id="untrack_thread", responses={204: None, **schema.problems(409)})
    def destroy(self, request: Request, thread_id: str) -> Response:
        """Stop tracking a thread. Its runs are kept."""
        threads.untrack(thread=self.get_object(), actor=self.user)
        return Response(status=status.HTTP_204_NO_CONTENT)
