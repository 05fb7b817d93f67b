"""Which threads are mirrored."""

from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from runsadmin.api import schema
from runsadmin.api.addresses import Addresses
from runsadmin.api.lookup import connection_of, find
from runsadmin.api.pagination import BY_TIME, page_of
from runsadmin.api.serializers import (
    ConnectionQuery,
    NewThreads,
    ThreadPage,
    ThreadSerializer,
    ThreadsQuery,
    TrackedThreads,
)
from runsadmin.api.views.base import View
from runsadmin.models import Thread
from runsadmin.services import threads
from runsadmin.services.permissions import Action


class Threads(View):
    actions = {"GET": Action.VIEW_THREADS, "POST": Action.TRACK_THREADS}
    queries = {"GET": ThreadsQuery}

    @extend_schema(operation_id="list_threads", responses=ThreadPage)
    def get(self, request: Request) -> Response:
        """The tracked threads, the newest here first."""
        rows = Thread.objects.filter(**self.given("tracked", "connection"))
        page = page_of(rows, order=BY_TIME, query=self.query, request=request)
        return Response(page.response(ThreadSerializer(page.rows, many=True, context={"request": request}).data))

    @extend_schema(
        operation_id="track_threads", request=NewThreads, responses={200: TrackedThreads, 201: TrackedThreads}
    )
    def post(self, request: Request) -> Response:
        """Tracks one thread or many from now on. 201 when one of them is new here, 200 when all were tracked already.

        Ids that cannot be are told in `results`; when none of them can be, it is a 400.
        """
        body = self.body(NewThreads)
        connection = connection_of(body)
        ids = body.get("thread_ids") or [body["thread_id"]]
        tracked = threads.track(connection=connection, thread_ids=ids, actor=self.user)
        if not (tracked.added or tracked.already):
            raise ValidationError(
                {"thread_ids" if "thread_ids" in body else "thread_id": "This cannot be the id of a thread."},
                code="invalid_id",
            )
        addresses = Addresses(request)
        results = [
            {
                "thread_id": thread_id,
                "outcome": outcome,
                "url": None
                if outcome == "invalid"
                else addresses.thread(Thread(connection=connection, upstream_id=thread_id)),
            }
            for outcome in ("added", "already", "invalid")
            for thread_id in getattr(tracked, outcome)
        ]
        code = status.HTTP_201_CREATED if tracked.added else status.HTTP_200_OK
        response = {"connection": connection, "results": results, "duplicates": tracked.duplicates}
        return Response(response, status=code)


class OneThread(View):
    actions = {"GET": Action.VIEW_THREADS, "DELETE": Action.UNTRACK_THREADS}
    queries = {"GET": ConnectionQuery, "DELETE": ConnectionQuery}

    @extend_schema(operation_id="retrieve_thread", responses={200: ThreadSerializer, **schema.problems(404, 409)})
    def get(self, request: Request, thread_id: str) -> Response:
        """One thread, by the id that upstream gave it: when it was read, and whether it still is."""
        thread = find(Thread.objects.all(), thread_id, self.query)
        return Response(ThreadSerializer(thread, context={"request": request}).data)

    @extend_schema(operation_id="untrack_thread", responses={204: None, **schema.problems(404, 409)})
    def delete(self, request: Request, thread_id: str) -> Response:
        """Stops tracking a thread. Its runs stay."""
        threads.untrack(thread=find(Thread.objects.all(), thread_id, self.query), actor=self.user)
        return Response(status=status.HTTP_204_NO_CONTENT)
