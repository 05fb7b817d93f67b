"""The OpenAPI document, the page that shows it, and the response to unknown URLs."""

from functools import cache
from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.urls import reverse
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer, OpenApiJsonRenderer2, OpenApiYamlRenderer
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularSwaggerSplitView
from rest_framework.exceptions import NotAuthenticated, NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from runsadmin.api.viewsets.strict import StrictView


class SchemaView(StrictView):
    renderer_classes = [OpenApiJsonRenderer, OpenApiJsonRenderer2, OpenApiYamlRenderer]

    @extend_schema(operation_id="retrieve_schema", responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """Retrieve this document, as JSON or, with `Accept: application/vnd.oai.openapi`, as YAML."""
        return Response(document())


@cache
def document() -> Any:
    return SchemaGenerator().get_schema(public=True)  # type: ignore[no-untyped-call]


class DocsView(SpectacularSwaggerSplitView):
    """Swagger UI. Browsers that are not signed in are redirected to the sign-in page."""

    url_name = "api:schema"
    template_name = "api/docs.html"

    def handle_exception(self, error: Exception) -> Any:
        if isinstance(error, NotAuthenticated):
            return redirect_to_login(self.request.get_full_path(), reverse("admin:login"))
        return super().handle_exception(error)


class NotFoundView(StrictView):
    """Every other URL of the API, so that its 404 response has problem details too."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        raise NotFound
