"""One request, one edit or bulk edit, however often a client sends it."""

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
class Asked[M: (Edit, BulkEdit)]:
    """A request with an Idempotency-Key, that makes a row of `kind`. Keys belong to a user and an endpoint."""

    kind: type[M]
    user: User
    endpoint: str
    key: str
    body: bytes

    def known(self) -> M | None:
        """What this request was recorded as before. Raises KeyReused when the key came with another body."""
        row = self._rows.exclude(_is_old()).first()
        if row is None:
            return None
        if row.body_digest != self._digest:
            raise IdempotencyKeyReused(
                "This Idempotency-Key was used with another body. Take a new key for a new request."
            )
        return self.kind.objects.get(pk=getattr(row, f"{self._column}_id"))

    def once(self, record: Callable[[], M]) -> M:
        """What `record` writes, in one transaction with the key: to be called when nothing is `known`.

        Raises KeyInUse when the same request came meanwhile and was recorded first, and whatever `record` raises.
        """
        try:
            with transaction.atomic():
                if self.known() is None:
                    self._rows.filter(_is_old()).delete()  # Not one that was recorded since we looked.
                    recorded = record()
                    self._rows.create(
                        user=self.user,
                        endpoint=self.endpoint,
                        key=self.key,
                        body_digest=self._digest,
                        **{self._column: recorded},
                    )
                    return recorded
        except IntegrityError:  # Ours was rolled back, with what it recorded.
            if self.known() is None:
                raise
        raise IdempotencyKeyInUse(
            "The same request is under way just now, and recorded once. Ask again for what it became."
        )

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
