"""A status changes along a table of legal changes, and in no other way."""

from collections.abc import Mapping
from typing import Any, ClassVar

from django.db import models


class TransitionQuerySet[M: models.Model](models.QuerySet[M]):
    """Rows that have a status. `transitions` is the table: what each status may become, and why that happens."""

    transitions: ClassVar[Mapping[Any, Mapping[Any, str]]]

    @classmethod
    def sources(cls, status: models.TextChoices) -> list[str]:
        """From where a row may legally change to `status`."""
        return [source.value for source, targets in cls.transitions.items() if status in targets]

    def transition_to(self, status: models.TextChoices, **values: object) -> int:
        """Moves those of these rows that may legally change to `status`. Returns how many did: look at it."""
        return self.filter(status__in=self.sources(status)).update(status=status, **values)
