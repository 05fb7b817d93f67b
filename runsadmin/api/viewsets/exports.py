from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from runsadmin.api import schema
from runsadmin.api.exporting import EXPORTED, file_response, new_export
from runsadmin.api.filters import ExportListQuery
from runsadmin.api.renderers import FileRenderer, JSONRenderer
from runsadmin.api.run_queries import search_of
from runsadmin.api.serializers.exports import ExportBody, ExportSerializer
from runsadmin.api.viewsets.strict import StrictViewSet
from runsadmin.models import Export
from runsadmin.services import exports
from runsadmin.services.exports import NewExport
from runsadmin.services.permissions import Action


class ExportViewSet(ListModelMixin, RetrieveModelMixin, StrictViewSet[Export]):
    """One's own exports; those of all accounts for superusers."""

    queryset = Export.objects.all()
    serializer_class = ExportSerializer
    query_serializers = {"list": ExportListQuery}
    body_serializers = {"create": ExportBody}
    required_permissions = dict.fromkeys(("list", "retrieve", "create", "file", "cancel"), (Action.VIEW_RUNS,))

    def get_queryset(self) -> QuerySet[Export]:
        return exports.visible_to(self.user)

    @extend_schema(operation_id="request_export", responses=schema.responses(ExportSerializer, 202))
    def create(self, request: Request) -> Response:
        """Request a file of runs.

        A worker writes it. It can be downloaded once the export is completed, and is deleted some days later.
        """
        query = dict(self.body)
        found = search_of(query, self.request.data, self.user)
        export = exports.request(NewExport(search=found, **new_export(query), **self.origin))
        return self.respond(export, status.HTTP_202_ACCEPTED)

    @extend_schema(operation_id="download_export", responses={**EXPORTED, **schema.problems(409, 410)})
    @action(detail=True, renderer_classes=[JSONRenderer, FileRenderer])
    def file(self, request: Request, pk: int) -> StreamingHttpResponse:
        """Download the file of a completed export."""
        export = self.get_object()
        return file_response(export, exports.open_file(export=export, actor=self.user))

    @extend_schema(responses=schema.responses(ExportSerializer, 200, 409))
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: int) -> Response:
        """Cancel an export that has not ended."""
        return self.respond(exports.cancel(export=self.get_object(), actor=self.user))
