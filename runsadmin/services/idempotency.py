"""One request, one edit, however often a client sends it."""

import datetime as dt
import hashlib
from collections.abc import Callable

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction

from runsadmin.errors import KeyReused
from runsadmin.models import Edit, IdempotencyKey
from runsadmin.services import clock

KEPT_FOR = dt.timedelta(hours=24)


def once(*, user: User, endpoint: str, key: str, body: bytes, record: Callable[[], Edit]) -> Edit:
    """The edit that this key already stands for, or else the one that `record` writes, in one transaction with the key.

    Keys belong to a user and an endpoint and are kept for a day. Raises KeyReused when the key came with another body,
    and whatever `record` raises.
    """
    digest = hashlib.sha256(body).hexdigest()
    try:
        with transaction.atomic():
            if (known := _known(user, endpoint, key, digest)) is not None:
                return known
            IdempotencyKey.objects.filter(user=user, endpoint=endpoint, key=key).delete()  # One that is out of date.
            edit = record()
            IdempotencyKey.objects.create(user=user, endpoint=endpoint, key=key, body_digest=digest, edit=edit)
            return edit
    except IntegrityError:  # The same request, at the same time, was first; ours was rolled back with its edit.
        if (known := _known(user, endpoint, key, digest)) is None:
            raise
        return known


def _known(user: User, endpoint: str, key: str, digest: str) -> Edit | None:
    since = clock.now() - KEPT_FOR
    row = (
        IdempotencyKey.objects.filter(user=user, endpoint=endpoint, key=key, created_at__gte=since)
        .select_related("edit__run__thread", "edit__actor")
        .first()
    )
    if row is None:
        return None
    if row.body_digest != digest:
        raise KeyReused("This Idempotency-Key was used with another body. Take a new key for a new request.")
    return row.edit


def forget_old() -> int:
    count, _ = IdempotencyKey.objects.filter(created_at__lt=clock.now() - KEPT_FOR).delete()
    return count
