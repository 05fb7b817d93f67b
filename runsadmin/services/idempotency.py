"""A request with an Idempotency-Key records one edit or bulk edit, however often it is sent."""

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
    """A request that records a row of `kind`. Keys belong to a user and an endpoint."""

    kind: type[M]
    user: User
    endpoint: str
    key: str
    body: bytes

    def existing(self) -> M | None:
        """What an earlier request recorded. Raises IdempotencyKeyReused when the key came with another body."""
        row = self._rows.exclude(_is_old()).first()
        if row is None:
            return None
        if row.body_digest != self._digest:
            raise IdempotencyKeyReused(
                "This Idempotency-Key was used with another body. Use a new key for a new request."
            )
        return self.kind.objects.get(pk=getattr(row, f"{self._column}_id"))

    def once(self, record: Callable[[], M]) -> M:
        """What `record` writes, in one transaction with the key. To be called when there is nothing `existing`.

        Raises IdempotencyKeyInUse when the same request was recorded meanwhile, and what `record` raises.
        """
        try:
            with transaction.atomic():
                if self.existing() is None:
                    self._rows.filter(_is_old()).delete()  # But never one that was recorded meanwhile.
                    recorded = record()
                    self._rows.create(
                        user=self.user,
                        endpoint=self.endpoint,
                        key=self.key,
                        body_digest=self._digest,
                        **{self._column: recorded},
                    )
                    return recorded
        except IntegrityError:  # Ours was rolled back.
            if self.existing() is None:
                raise
        raise IdempotencyKeyInUse("The same request is being processed now. Send it again to get its result.")

    @property
    def _rows(self) -> QuerySet[IdempotencyKey]:
        return IdempotencyKey.objects.filter(user=self.user, endpoint=self.endpoint, key=self.key)

    @property
    def _column(self) -> str:
        return _COLUMNS[self.kind]

    @property
    def _digest(self) -> str:
        return hashlib.sha256(self.body).hexdigest()


def forget_old() -> int:
    count, _ = IdempotencyKey.objects.filter(_is_old()).delete()
    return count


def _is_old() -> Q:
    return Q(created_at__lt=clock.now() - KEPT_FOR)
