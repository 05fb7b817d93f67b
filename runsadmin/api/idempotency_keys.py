"""The `Idempotency-Key` header: a request that is sent again with the same key is recorded only once."""

from django.contrib.auth.models import User
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from runsadmin.models import BulkEdit, Edit
from runsadmin.services.idempotency import IdempotentRequest


def idempotent_request[M: (Edit, BulkEdit)](request: Request, kind: type[M], endpoint: str) -> IdempotentRequest[M]:
    """Describes a request that records a row of `kind`. Raises ValidationError for an invalid key."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and not (1 <= len(key) <= 200 and key.isascii() and key.isprintable()):
        raise ValidationError(
            {"Idempotency-Key": "A key must have 1 to 200 printable ASCII characters, such as a UUID."}, code="invalid"
        )
    assert isinstance(request.user, User)
    return IdempotentRequest(kind, request.user, endpoint, key, request.body)
