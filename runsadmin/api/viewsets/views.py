from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.exceptions import ValidationError
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from runsadmin.api import schema
from runsadmin.api.serializers.strict import PageQuery
from runsadmin.api.serializers.views import ChangeViewBody, CreateViewBody, ViewSerializer
from runsadmin.api.viewsets.strict import StrictViewSet
from runsadmin.errors import InvalidColumns, InvalidView
from runsadmin.models import DefaultView, SavedView
from runsadmin.services import views
from runsadmin.services.permissions import Action


class ViewViewSet(ListModelMixin, RetrieveModelMixin, StrictViewSet[SavedView]):
    queryset = SavedView.objects.select_related("owner")
    serializer_class = ViewSerializer
    query_serializers = {"list": PageQuery}
    body_serializers = {"create": CreateViewBody, "partial_update": ChangeViewBody}
    # `services.views` decides who may change which view.
    required_permissions = dict.fromkeys(
        ("list", "retrieve", "create", "partial_update", "destroy"), (Action.VIEW_RUNS,)
    )
    lookup_field = "slug"
    lookup_value_converter = "str"

    def get_queryset(self) -> QuerySet[SavedView]:
        return SavedView.objects.visible_to(self.user).select_related("owner")

    def get_object(self) -> SavedView:
        return views.resolve(self.kwargs["slug"], self.user)

    def get_serializer_context(self) -> dict[str, Any]:
        default = DefaultView.objects.filter(user=self.user).values_list("view", flat=True).first()
        return {**super().get_serializer_context(), "default": default}

    @extend_schema(operation_id="create_view", responses={201: ViewSerializer})
    def create(self, request: Request) -> Response:
        """Save a view."""
        return self._save(SavedView(), status.HTTP_201_CREATED)

    @extend_schema(operation_id="change_view", responses=schema.responses(ViewSerializer, 200))
    def partial_update(self, request: Request, slug: str) -> Response:
        """Change a view. Fields that the body does not have stay as they are."""
        return self._save(self.get_object(), status.HTTP_200_OK)

    @extend_schema(operation_id="delete_view", responses={204: None})
    def destroy(self, request: Request, slug: str) -> Response:
        """Delete a view."""
        views.delete(view=self.get_object(), actor=self.user)
        return Response(status=status.HTTP_204_NO_CONTENT)

    def _save(self, view: SavedView, status: int) -> Response:
        values = dict(self.body)
        is_default = values.pop("is_default", None)
        for field, value in values.items():
            setattr(view, field, value)
        with _naming_the_field(), transaction.atomic():
            if values or view.pk is None:
                views.save(view=view, actor=self.user)
            if is_default:
                views.set_default(view=view, actor=self.user)
            elif is_default is False and views.default_of(self.user) == view:
                views.set_default(view=None, actor=self.user)
        return self.respond(view, status)


@contextmanager
def _naming_the_field() -> Iterator[None]:
    """Reports invalid values as errors of their field, except a search: that has its own type of problem."""
    try:
        yield
    except InvalidView as error:
        raise ValidationError({error.field: str(error)}, code="invalid") from None
    except InvalidColumns as error:
        raise ValidationError({"columns": str(error)}, code="invalid") from None
