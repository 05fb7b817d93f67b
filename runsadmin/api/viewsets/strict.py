"""The base classes of all views: permissions by action, and strict parsing of queries and bodies."""

from collections.abc import Mapping
from typing import Any, ClassVar

from django.contrib.auth.models import User
from django.db.models import Model
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.serializers import Serializer
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet

from runsadmin.api.pagination import IdPagination
from runsadmin.api.serializers.strict import QuerySerializer, StrictSerializer
from runsadmin.services.permissions import Action


class StrictView(APIView):
    """`query_serializers` has the parameters of each action. Others are a 400."""

    http_method_names = ["get", "head", "post", "patch", "delete"]
    query_serializers: ClassVar[Mapping[str, type[QuerySerializer]]] = {}
    query: dict[str, Any]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if request.method in self.allowed_methods:  # Otherwise it is a 405, whatever the parameters.
            action = getattr(self, "action", "")
            self.query = read_query(request, self.query_serializers.get(action, QuerySerializer))

    @property
    def user(self) -> User:
        assert isinstance(self.request.user, User)  # HasRequiredPermission has checked it.
        return self.request.user

    def read_body(self, serializer: type[StrictSerializer]) -> dict[str, Any]:
        return _validated(serializer(data=self.request.data))


class StrictViewSet[M: Model](StrictView, GenericViewSet[M]):
    """`required_permissions` has the permission of each action."""

    required_permissions: ClassVar[Mapping[str, Action]]
    lookup_value_converter = "int"
    pagination_class = IdPagination


def read_query(request: Request, serializer: type[QuerySerializer]) -> dict[str, Any]:
    """The validated query. A repeated parameter is an error: it would be unclear which value is meant."""
    if repeated := [name for name, values in request.query_params.lists() if len(values) > 1]:
        raise ValidationError(
            {name[:100]: ["This parameter is given more than once."] for name in repeated}, code="given_twice"
        )
    return _validated(serializer(data=request.query_params.dict()))


def _validated(serializer: Serializer[Any]) -> dict[str, Any]:
    serializer.is_valid(raise_exception=True)
    data: dict[str, Any] = serializer.validated_data
    return data
