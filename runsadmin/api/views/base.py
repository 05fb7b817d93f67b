"""The rules that hold for every call: who may, which parameters there are, and what a body may hold."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from django.contrib.auth.models import User
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.serializers import Serializer
from rest_framework.views import APIView

from runsadmin.api.serializers import Query, Strict
from runsadmin.models import BulkEdit, Edit
from runsadmin.services.idempotency import Asked
from runsadmin.services.permissions import Action


class View(APIView):
    """`actions` says what each method takes (see services.permissions), `queries` which parameters it knows."""

    http_method_names = ["get", "head", "post", "patch", "delete"]
    actions: ClassVar[Mapping[str, Action]] = {}
    queries: ClassVar[Mapping[str, type[Query]]] = {}
    query: dict[str, Any]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if request.method in self.allowed_methods:  # Any other is refused, whatever the parameters.
            method = "GET" if request.method == "HEAD" else request.method
            self.query = read_query(request, self.queries.get(method, Query))

    @property
    def user(self) -> User:
        assert isinstance(self.request.user, User)  # Allowed has seen to it.
        return self.request.user

    def asked[M: (Edit, BulkEdit)](self, kind: type[M], endpoint: str) -> Asked[M] | None:
        """The request as its `Idempotency-Key` tells it from others; None where it has none."""
        key = self.request.headers.get("Idempotency-Key")
        if key is None:
            return None
        if not (1 <= len(key) <= 200 and key.isascii() and key.isprintable()):
            raise ValidationError(
                {"Idempotency-Key": "A key has 1 to 200 printable ASCII characters; a UUID is a good one."},
                code="invalid",
            )
        return Asked(kind=kind, user=self.user, endpoint=endpoint, key=key, body=self.request.body)

    def once[M: (Edit, BulkEdit)](self, kind: type[M], endpoint: str, record: Callable[[], M]) -> M:
        """What `record` writes, or what the same request, by its `Idempotency-Key`, was recorded as before."""
        asked = self.asked(kind, endpoint)
        return record() if asked is None else asked.known() or asked.once(record)

    def given(self, *names: str, **lookups: str) -> dict[str, Any]:
        """The conditions of those parameters that were given: `given("status", actor="actor__username")`."""
        wanted = dict(zip(names, names, strict=True)) | lookups
        return {lookup: self.query[name] for name, lookup in wanted.items() if name in self.query}

    def body[S: Strict](self, serializer: type[S]) -> dict[str, Any]:
        return _validated(serializer(data=self.request.data))


def read_query(request: Request, serializer: type[Query]) -> dict[str, Any]:
    """The parameters of the address, checked. One that is given twice is a mistake: which one is meant?"""
    if twice := [name for name, values in request.query_params.lists() if len(values) > 1]:
        raise ValidationError({name[:100]: ["This parameter is given twice."] for name in twice}, code="given_twice")
    return _validated(serializer(data=request.query_params.dict()))


def _validated(serializer: Serializer[Any]) -> dict[str, Any]:
    serializer.is_valid(raise_exception=True)
    data: dict[str, Any] = serializer.validated_data
    return data
