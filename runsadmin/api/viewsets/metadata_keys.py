from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from runsadmin.api.filters import TextListQuery
from runsadmin.api.pagination import TextPagination
from runsadmin.api.serializers.metadata_keys import MetadataKeySerializer, MetadataValueSerializer
from runsadmin.api.viewsets.strict import StrictViewSet
from runsadmin.models import MetadataPair
from runsadmin.services.metadata_keys import Texts
from runsadmin.services.permissions import Action


class MetadataKeyViewSet(StrictViewSet[MetadataPair]):
    queryset = MetadataPair.objects.all()
    serializer_classes = {"list": MetadataKeySerializer, "values": MetadataValueSerializer}
    pagination_class = TextPagination
    filter_backends = []
    lookup_url_kwarg = "key"
    lookup_value_converter = "any_text"  # Registered in `api.urls`.
    query_serializers = {"list": TextListQuery, "values": TextListQuery}
    required_permissions = dict.fromkeys(("list", "values"), (Action.VIEW_RUNS,))

    @extend_schema(
        description="List the metadata keys of all runs, with the number of runs that have each.",
        responses=MetadataKeySerializer(many=True),
    )
    def list(self, request: Request) -> Response:
        return self._page_of(Texts(self.query["prefix"]))

    @extend_schema(
        operation_id="list_values_of_metadata_key",
        parameters=[OpenApiParameter("key", str, OpenApiParameter.PATH, description="A metadata key.")],
        responses=MetadataValueSerializer(many=True),
    )
    @action(detail=True)
    def values(self, request: Request, key: str) -> Response:
        """List the values of a metadata key, with the number of runs that have each. Empty if no run has it."""
        return self._page_of(Texts(self.query["prefix"], key))

    def _page_of(self, texts: Texts) -> Response:
        page = self.paginate_queryset(texts)  # type: ignore[arg-type] # It has pages like a queryset.
        return self.get_paginated_response(self.get_serializer(page, many=True).data)
