"""Requests with an Idempotency-Key, which record one edit or bulk edit however often they are sent."""

import datetime as dt
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet

from runsadmin.errors import IdempotencyKeyInUse, IdempotencyKeyReused
from runsadmin.models import BulkEdit, Edit, IdempotencyKey
from runsadmin.services import clock

KEPT_FOR = dt.timedelta(hours=24)

_COLUMNS: dict[type[Edit | BulkEdit], str] = {Edit: "edit", BulkEdit: "bulk_edit"}


@dataclass(frozen=True)
class IdempotentRequest[M: (Edit, BulkEdit)]:
    """A request that records a row of `kind`. Keys belong to a user and an endpoint. Without a key, nothing is kept."""

    kind: type[M]
    user: User
    endpoint: str
    key: str | None
    body: bytes

    def existing(self) -> M | None:
        """The row that an earlier request recorded. Raises IdempotencyKeyReused if that request had another body."""
        row = None if self.key is None else self._rows.exclude(_is_old()).first()
        if row is None:
            return None
        if row.body_digest != self._digest:
            raise IdempotencyKeyReused(
                "This Idempotency-Key was used with another body. Use a new key for a new request."
            )
        return self.kind.objects.get(pk=getattr(row, f"{_COLUMNS[self.kind]}_id"))

    def once(self, record: Callable[[], M]) -> M:
        """Records the row and the key in one transaction. Call it if `existing` returns None.

        Raises IdempotencyKeyInUse if the same request was recorded in the meantime, and whatever `record` raises.
        """
        if self.key is None:
            return record()
        try:
            with transaction.atomic():
                if self.existing() is None:
                    # Delete only an old row: another request may just have recorded a new one.
                    self._rows.filter(_is_old()).delete()
                    recorded = record()
                    owner = {"user": self.user, "endpoint": self.endpoint, "key": self.key}
                    self._rows.create(**owner, body_digest=self._digest, **{_COLUMNS[self.kind]: recorded})
                    return recorded
        except IntegrityError:  # Our transaction has been rolled back.
            if self.existing() is None:
                raise
        raise IdempotencyKeyInUse("The same request is in progress. Send it again later to get its result.")

    @property
    def _rows(self) -> QuerySet[IdempotencyKey]:
        return IdempotencyKey.objects.filter(user=self.user, endpoint=self.endpoint, key=self.key)

    @property
    def _digest(self) -> str:
        return hashlib.sha256(self.body).hexdigest()


def forget_old() -> int:
    count, _ = IdempotencyKey.objects.filter(_is_old()).delete()
    return count


def _is_old() -> Q:
    return Q(created_at__lt=clock.now() - KEPT_FOR)
