from functools import partial
from typing import Any

import orjson
from django.db.models import QuerySet
from django.http import HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.http import parse_etags
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from runsadmin.api import schema
from runsadmin.api.edit_responses import raise_for_status
from runsadmin.api.exporting import EXPORTED, new_export, send
from runsadmin.api.filters import ExportQuery, RunListQuery
from runsadmin.api.idempotency_keys import idempotent_request
from runsadmin.api.if_match import names_version
from runsadmin.api.links import Links
from runsadmin.api.pagination import RunPagination
from runsadmin.api.parsers import JSONParser, MergePatchParser
from runsadmin.api.problems import ProblemError, ProblemType
from runsadmin.api.renderers import FileRenderer, JSONRenderer
from runsadmin.api.run_queries import search_of
from runsadmin.api.run_representation import etag, represent_run, represent_runs, representable
from runsadmin.api.serializers.runs import EditRunBody, RunSerializer
from runsadmin.api.serializers.strict import ConnectionQuery
from runsadmin.api.viewsets.upstream_id import UpstreamIdViewSet
from runsadmin.errors import NotFound
from runsadmin.ids import is_id
from runsadmin.metadata import MetadataPatch
from runsadmin.models import Edit, Run
from runsadmin.services import edits, runs
from runsadmin.services.exports import NewExport
from runsadmin.services.permissions import Action
from runsadmin.services.run_search import RunSearch

# Built once: resolving its expressions takes a tenth of the time of a page.
REPRESENTABLE = representable(Run.objects.all())


class RunViewSet(UpstreamIdViewSet[Run]):
    queryset = Run.objects.all()
    serializer_class = RunSerializer
    pagination_class = RunPagination
    parser_classes = [JSONParser, MergePatchParser]
    lookup_url_kwarg = "run_id"
    query_serializers = {
        "list": RunListQuery,
        "export": ExportQuery,
        **dict.fromkeys(("retrieve", "partial_update", "refresh"), ConnectionQuery),
    }
    body_serializers = {"partial_update": EditRunBody}
    required_permissions = {
        **dict.fromkeys(("list", "retrieve", "export"), (Action.VIEW_RUNS,)),
        **dict.fromkeys(("partial_update", "refresh"), (Action.VIEW_RUNS, Action.EDIT_METADATA)),
    }

    search: RunSearch  # The search of a list.

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Serves a run whose id looks like an action, unless the request is for the action.

        To refresh a run is a POST to `…/refresh`. A request to `export` must have a format.
        """
        run_id = ""
        if "refresh" in self.action_map.values() and request.method in ("GET", "HEAD", "PATCH"):
            run_id = f"{kwargs['run_id']}/refresh"
        elif "export" in self.action_map.values() and "format" not in request.GET:
            run_id = "export"
        if run_id and is_id(run_id) and Run.objects.filter(upstream_id=run_id).exists():
            return RunViewSet.as_view({"get": "retrieve", "patch": "partial_update"})(request, run_id=run_id)
        return super().dispatch(request, *args, **kwargs)

    def get_queryset(self) -> QuerySet[Any]:
        if self.action in ("list", "retrieve"):
            return REPRESENTABLE.all()
        return Run.objects.select_related("thread")

    def list(self, request: Request) -> Response:
        self.search = self._search()
        page = self.paginate_queryset(self.get_queryset())
        return self.get_paginated_response(represent_runs(page or (), Links(request)))

    @extend_schema(operation_id="export_runs", responses={**EXPORTED, **schema.problems(409)})
    @action(detail=False, renderer_classes=[JSONRenderer, FileRenderer])
    def export(self, request: Request) -> StreamingHttpResponse:
        """Export runs to a file, newest first.

        The file is sent as the runs are read. If two files are already being sent, the response is a 429: request a
        file that a worker writes, with POST /api/v1/exports/.
        """
        found = self._search()
        return send(NewExport(search=found, **new_export(self.query), **self.origin))

    def _search(self) -> RunSearch:
        return search_of(self.query, self.request.query_params, self.user)

    @extend_schema(
        parameters=[schema.IF_NONE_MATCH, schema.ETAG],
        responses={200: RunSerializer, 304: schema.NOT_MODIFIED, **schema.problems(409)},
    )
    def retrieve(self, request: Request, run_id: str) -> Response:
        run = self.get_object()
        known = [tag.removeprefix("W/") for tag in parse_etags(request.headers.get("If-None-Match", ""))]
        if etag(run) in known or known == ["*"]:
            return Response(status=status.HTTP_304_NOT_MODIFIED, headers={"ETag": etag(run)})
        return self._response(run)

    @extend_schema(
        operation_id="edit_run",
        parameters=[schema.IF_MATCH, schema.IDEMPOTENCY_KEY, schema.ETAG],
        responses=schema.responses(RunSerializer, 200, 202, 409, 412, 422, 424),
    )
    def partial_update(self, request: Request, run_id: str) -> Response:
        """Edit the metadata of a run, upstream and in the mirror.

        The edit is recorded and then sent. 200: upstream has the metadata shown in the response. 202: the edit
        continues in the background, and `Location` is its URL.
        """
        run = self.get_object()
        idempotent = idempotent_request(request, Edit, f"run {run.pk}")
        edit = idempotent.existing()
        if edit is None:  # A repeated request sends nothing and only reports on the edit.
            edit = edits.push_within(idempotent.once(partial(self._record, run)))
        raise_for_status(edit, request)
        return self._response(REPRESENTABLE.get(pk=run.pk), edit)

    @extend_schema(parameters=[schema.ETAG], responses=schema.responses(RunSerializer, 200, 409, 410, 422, 424))
    @action(detail=True, methods=["post"])
    def refresh(self, request: Request, run_id: str) -> Response:
        """Fetch a run from upstream."""
        run = self.get_object()
        try:
            runs.refresh(run=run, actor=self.user)
        except NotFound as error:
            run.refresh_from_db()
            if run.missing_since is None:  # Upstream returns 404 for other runs as well.
                raise
            raise ProblemError(
                ProblemType.RUN_GONE, f"The mirror keeps its copy of this run. Upstream: {error}"
            ) from error
        return self._response(REPRESENTABLE.get(pk=run.pk))

    def _record(self, run: Run) -> Edit:
        base, patch = self.body["base"], self.body["metadata"]
        if_match = self.request.headers.get("If-Match")
        if if_match is not None and names_version(if_match, run.etag) and base is None:
            base = run.metadata
        if patch is None:  # Removes only the known keys: a key that the actor did not see stays.
            base = run.metadata if base is None else base
            patch = MetadataPatch(remove=frozenset(base))
        return edits.record(run=run, patch=patch, base=base, reason=self.body["reason"], **self.origin)

    def _response(self, run: Any, edit: Edit | None = None) -> Response:
        """The response for a `representable` run, with this edit or else its latest one."""
        links, headers = Links(self.request), {"ETag": etag(run)}
        if edit is None:
            return Response(orjson.Fragment(*represent_runs([run], links)), headers=headers)
        shown = represent_run(run, edit, links)
        if edit.has_ended:
            return Response(shown, headers=headers)
        return Response(shown, status.HTTP_202_ACCEPTED, headers=headers | {"Location": links.edit(edit.pk)})
