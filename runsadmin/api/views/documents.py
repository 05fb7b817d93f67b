"""What tells of the API itself: its OpenAPI document, and the page that shows it."""

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

from runsadmin.api.views.base import View


class Schema(View):
    renderer_classes = [OpenApiJsonRenderer, OpenApiJsonRenderer2, OpenApiYamlRenderer]

    @extend_schema(operation_id="retrieve_schema", responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """This document, OpenAPI 3.1: JSON, or YAML with `Accept: application/vnd.oai.openapi`."""
        return Response(document())


@cache
def document() -> Any:
    return SchemaGenerator().get_schema(public=True)  # type: ignore[no-untyped-call]


class Docs(SpectacularSwaggerSplitView):
    """Swagger's page. It is for people with a browser: they are sent to sign in."""

    url_name = "api:schema"
    template_name = "api/docs.html"

    def handle_exception(self, error: Exception) -> Any:
        if isinstance(error, NotAuthenticated):
            return redirect_to_login(self.request.get_full_path(), reverse("admin:login"))
        return super().handle_exception(error)


class Nothing(View):
    """Every other address under the API: what is not there is told as a problem, too."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        raise NotFound
