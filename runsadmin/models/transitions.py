"""Changes of status, which must follow a table of permitted transitions."""

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

from django.db import models
from django.db.models import Q

from runsadmin.errors import InvalidTransition
from runsadmin.models.bulk_sql import Row, update_rows


class TransitionQuerySet[M: models.Model](models.QuerySet[M]):
    """Rows with a status. `transitions` is the table: which statuses may follow each status, and why."""

    transitions: ClassVar[Mapping[Any, Mapping[Any, str]]]

    @classmethod
    def sources(cls, status: models.TextChoices) -> list[str]:
        """The statuses from which a row may change to `status`."""
        return [source.value for source, targets in cls.transitions.items() if status in targets]

    def transition_to(self, status: models.TextChoices, **values: object) -> int:
        """Changes the rows that may change to `status`. Returns how many did, which may be none."""
        return self.filter(status__in=self.sources(status)).update(status=status, **values)

    def move(self, row: M, status: models.TextChoices, otherwise: str, **values: object) -> M:
        """Changes one of these rows and returns it. Raises InvalidTransition, whose message begins with `otherwise`."""
        is_moved = self.filter(pk=row.pk).transition_to(status, **values)
        current: Any = self.model._default_manager.get(pk=row.pk)
        if not is_moved:
            raise InvalidTransition(f"{otherwise}; this one is {current.get_status_display().lower()}.")
        return current  # type: ignore[no-any-return]

    def transition_rows(self, status: models.TextChoices, rows: Iterable[Row]) -> int:
        """Like `transition_to`, for rows with their own values: (values to set, values that identify the row)."""
        moved = [({"status": status, **values}, identity) for values, identity in rows]
        return len(update_rows(self.model, moved, status_in=self.sources(status)))


class ClaimableQuerySet[M: models.Model](TransitionQuerySet[M]):
    """Rows that one process at a time works on: the one with the `claim_token`, until `claimed_until`."""

    def free(self, now: dt.datetime) -> Self:
        """The rows that may be claimed: unclaimed, or with an expired lease."""
        return self.filter(Q(claim_token=None) | Q(claimed_until__lt=now))
