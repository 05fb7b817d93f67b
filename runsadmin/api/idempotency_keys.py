"""The header `Idempotency-Key`: the same request sent again is recorded once."""

from collections.abc import Callable

from django.contrib.auth.models import User
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from runsadmin.models import BulkEdit, Edit
from runsadmin.services.idempotency import IdempotentRequest


def idempotent_request[M: (Edit, BulkEdit)](
    request: Request, kind: type[M], endpoint: str
) -> IdempotentRequest[M] | None:
    """None without the header."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not (1 <= len(key) <= 200 and key.isascii() and key.isprintable()):
        raise ValidationError(
            {"Idempotency-Key": "A key has 1 to 200 printable ASCII characters, for example a UUID."}, code="invalid"
        )
    assert isinstance(request.user, User)
    return IdempotentRequest(kind=kind, user=request.user, endpoint=endpoint, key=key, body=request.body)


def record_once[M: (Edit, BulkEdit)](request: Request, kind: type[M], endpoint: str, record: Callable[[], M]) -> M:
    """What `record` writes, or what the same request was recorded as before."""
    idempotent = idempotent_request(request, kind, endpoint)
    return record() if idempotent is None else idempotent.existing() or idempotent.once(record)
