"""The base classes of all views: permissions by action, and strict parsing of queries and bodies."""

from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar

from django.contrib.auth.models import User
from django.db.models import Model
from django.http import Http404
from rest_framework.exceptions import ValidationError
from rest_framework.generics import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet

from runsadmin import log_context
from runsadmin.api.filters import QueryFilter
from runsadmin.api.pagination import IdPagination
from runsadmin.api.problems import ProblemError, ProblemType
from runsadmin.api.serializers.strict import QuerySerializer, StrictSerializer
from runsadmin.models import EditSource
from runsadmin.services.permissions import Action


class StrictView(APIView):
    """`query_serializers` and `body_serializers` define what each action accepts. Anything else is a 400."""

    http_method_names = ["get", "head", "post", "patch", "delete"]
    query_serializers: ClassVar[Mapping[str, type[QuerySerializer]]] = {}
    body_serializers: ClassVar[Mapping[str, type[StrictSerializer]]] = {}
    query: dict[str, Any]
    body: dict[str, Any]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if request.method not in self.allowed_methods:  # The response is a 405, whatever the request contains.
            return
        action = getattr(self, "action", "")
        self.query = _validated(self.query_serializers.get(action, QuerySerializer), _single_values(request))
        if request.method in ("POST", "PATCH"):
            self.body = _validated(self.body_serializers.get(action, StrictSerializer), request.data)

    @property
    def user(self) -> User:
        assert isinstance(self.request.user, User)  # HasRequiredPermission refuses anonymous users.
        return self.request.user

    @property
    def origin(self) -> dict[str, Any]:
        """The arguments of services that say where an edit comes from."""
        return {"actor": self.user, "source": EditSource.API, "request_id": log_context.request_id()}


class StrictViewSet[M: Model](StrictView, GenericViewSet[M]):
    """`required_permissions` has the permissions of each action, `serializer_classes` the serializer of its response.

    They include the permission to view what the response shows.
    """

    required_permissions: ClassVar[Mapping[str, tuple[Action, ...]]]
    serializer_classes: ClassVar[Mapping[str, type[BaseSerializer[Any]]]] = {}
    lookup_value_converter = "int"
    pagination_class = IdPagination
    filter_backends = [QueryFilter]

    def get_serializer_class(self) -> type[BaseSerializer[Any]]:
        return self.serializer_classes.get(self.action) or super().get_serializer_class()

    def get_object(self) -> M:
        """The row that the URL names. Ignores filters, which may be about other rows. Raises ProblemError."""
        value = self.kwargs[self.lookup_field]
        rows = self.get_queryset()
        try:
            return get_object_or_404(rows, **{self.lookup_field: value})
        except Http404:
            name = rows.model._meta.verbose_name
            raise ProblemError(ProblemType.NOT_FOUND, f"There is no {name} {value!r}.") from None

    def respond(self, row: M, status: int = 200) -> Response:
        """The response with a row. `Location` is its URL if it is new or continues in the background."""
        data = self.get_serializer(row).data
        return Response(data, status, headers={"Location": str(data["url"])} if status in (201, 202) else None)


def _single_values(request: Request) -> dict[str, str]:
    """Raises ValidationError for a repeated parameter, since it is unclear which value is meant."""
    if repeated := [name for name, values in request.query_params.lists() if len(values) > 1]:
        raise ValidationError(
            {name[:100]: ["This parameter is given more than once."] for name in repeated}, code="given_twice"
        )
    return request.query_params.dict()


def _validated(kind: type[StrictSerializer], data: Any) -> dict[str, Any]:
    return dict(_serializer(kind).run_validation(data))


@cache
def _serializer(kind: type[StrictSerializer]) -> StrictSerializer:
    """Cached, since making one takes a tenth of the time of a list. It can be reused, because it has no state."""
    return kind()
