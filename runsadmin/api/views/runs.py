"""Runs: found, read, edited and read anew."""

from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.http import parse_etags
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from runsadmin import conf, log_context
from runsadmin.api import schema
from runsadmin.api.addresses import Addresses
from runsadmin.api.if_match import names_version
from runsadmin.api.lookup import find
from runsadmin.api.outcomes import is_done
from runsadmin.api.pagination import BY_TIME, page_of
from runsadmin.api.problems import ProblemType, Refused
from runsadmin.api.serializers import ConnectionQuery, NoBody, RunChange, RunPage, RunSerializer, RunsQuery
from runsadmin.api.shapes import run_shape, run_shapes, shapeable
from runsadmin.api.views.base import View
from runsadmin.errors import NotFound
from runsadmin.ids import is_id
from runsadmin.metadata import Metadata, MetadataPatch
from runsadmin.models import Edit, Run, Thread
from runsadmin.services import edits, run_search, runs
from runsadmin.services.permissions import Action


class Runs(View):
    actions = {"GET": Action.VIEW_RUNS}
    queries = {"GET": RunsQuery}

    @extend_schema(operation_id="list_runs", responses=RunPage)
    def get(self, request: Request) -> Response:
        """The mirrored runs, newest first."""
        rows = run_search.matching(self.query.get("q", "")).filter(
            **self.given(
                "connection", "status", "model", "assistant_id",
                created_after="created_at__gte", created_before="created_at__lt",
            )
        )  # fmt: skip
        if {"created_after", "created_before"} & self.query.keys():
            rows = rows.filter(created_at_is_known=True)
        if "thread_id" in self.query:
            # Its keys first: then the index on thread and time serves the page.
            threads = Thread.objects.filter(connection__in=conf.connections(), upstream_id=self.query["thread_id"])
            rows = rows.filter(thread__in=list(threads.values_list("pk", flat=True)))
        page = page_of(shapeable(rows), order=BY_TIME, query=self.query, request=request)
        return Response(page.response(run_shapes(page.rows, Addresses(request))))


class OneRun(View):
    actions = {"GET": Action.VIEW_RUNS, "PATCH": Action.EDIT_METADATA}
    queries = {"GET": ConnectionQuery, "PATCH": ConnectionQuery}

    @extend_schema(
        operation_id="retrieve_run",
        parameters=[schema.IF_NONE_MATCH, schema.ETAG],
        responses={200: RunSerializer, 304: schema.NOT_MODIFIED, **schema.problems(404, 409)},
    )
    def get(self, request: Request, run_id: str) -> Response:
        """One run, by the id that upstream gave it. The `ETag` changes only when the mirror's row is written."""
        run = find(shapeable(Run.objects.all()), run_id, self.query)
        known = [etag.removeprefix("W/") for etag in parse_etags(request.headers.get("If-None-Match", ""))]
        if run.etag in known or known == ["*"]:
            return Response(status=status.HTTP_304_NOT_MODIFIED, headers={"ETag": run.etag})
        return told(run, request)

    @extend_schema(
        operation_id="edit_run",
        parameters=[schema.IF_MATCH, schema.IDEMPOTENCY_KEY, schema.ETAG, schema.LOCATION],
        request={"application/json": RunChange, "application/merge-patch+json": RunChange},
        responses={200: RunSerializer, 202: RunSerializer, **schema.problems(404, 409, 412, 422, 424)},
    )
    def patch(self, request: Request, run_id: str) -> Response:
        """Edits the metadata, upstream and here.

        The edit is recorded, then sent; this call waits for the outcome a few seconds. 200: upstream holds what the
        answer shows. 202: it goes on in the background, and `Location` is the edit to ask about.
        """
        change = self.body(RunChange)
        run = find(Run.objects.select_related("thread"), run_id, self.query)
        recorded: Edit | None = None

        def record() -> Edit:
            nonlocal recorded
            recorded = self._record(run, change)
            return recorded

        edit = self.once(Edit, f"run {run.pk}", record)
        if edit is recorded:  # The same request again only asks what became of the first.
            edit = edits.push_within(edit)
        done = is_done(edit, request)
        now = shapeable(Run.objects.filter(pk=run.pk)).get()
        if done:
            return told(now, request, edit)
        return told(
            now, request, edit, status=status.HTTP_202_ACCEPTED, headers={"Location": Addresses(request).edit(edit.pk)}
        )

    def _record(self, run: Run, change: dict[str, Any]) -> Edit:
        base = _base(run, change, self.request.headers.get("If-Match"))
        patch = change["metadata"]
        if patch is None:  # Cleared is what is seen: a key that nobody here has seen survives.
            base = run.metadata if base is None else base
            patch = MetadataPatch(remove=frozenset(base))
        return edits.record(
            run=run,
            patch=patch,
            actor=self.user,
            source=Edit.Source.API,
            base=base,
            reason=change.get("reason", ""),
            request_id=log_context.request_id(),
        )


class RefreshRun(View):
    actions = {"POST": Action.EDIT_METADATA}
    queries = {"POST": ConnectionQuery}

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """An id may itself end in `/refresh`, and servers hand over paths decoded. Only POST refreshes."""
        whole = f"{kwargs['run_id']}/refresh"
        if request.method in ("GET", "HEAD", "PATCH") and is_id(whole) and Run.objects.filter(upstream_id=whole):
            return OneRun.as_view()(request, run_id=whole)
        return super().dispatch(request, *args, **kwargs)

    @extend_schema(
        operation_id="refresh_run",
        parameters=[schema.ETAG],
        request=None,
        responses={200: RunSerializer, **schema.problems(404, 409, 410, 422, 424)},
    )
    def post(self, request: Request, run_id: str) -> Response:
        """Reads one run anew from upstream."""
        self.body(NoBody)
        run = find(Run.objects.select_related("thread"), run_id, self.query)
        try:
            runs.refresh(run=run, actor=self.user)
        except NotFound as error:
            run.refresh_from_db()
            if run.missing_since is None:  # It is not this run: everything answers 404.
                raise
            raise Refused(
                ProblemType.RUN_GONE, f"The mirror keeps what it knows of it. Upstream said: {error}"
            ) from error
        return told(shapeable(Run.objects.filter(pk=run.pk)).get(), request)


def told(run: Run, request: Request, edit: Edit | None = None, **options: Any) -> Response:
    """A `shapeable` run as it is here, with this edit beside it, or else its latest one."""
    addresses = Addresses(request)
    shape = run_shapes([run], addresses)[0] if edit is None else run_shape(run, edit, addresses)
    response = Response(shape, **options)
    response["ETag"] = run.etag
    return response


def _base(run: Run, change: dict[str, Any], if_match: str | None) -> Metadata | None:
    """What the actor saw: the `base` that is given, or else the version that `If-Match` names. None when neither is.

    Raises what `names_version` raises, also when there is a base: who sends both means both.
    """
    version = None
    if if_match is not None and names_version(if_match, run.etag):
        version = run.metadata
    if "base" in change:
        return Metadata() if change["base"] is None else change["base"]
    return version
