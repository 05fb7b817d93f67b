"""The progress of a bulk edit. Its edits are counted each time, since stored counts could differ from them."""

import datetime as dt
from collections import Counter
from dataclasses import dataclass

from django.db.models import Count, QuerySet

from runsadmin.models import BulkEdit, BulkEditStatus, Edit, EditStatus
from runsadmin.models.edit import ENDED
from runsadmin.services import clock

# A rate over a shorter time would not be reliable.
_MIN_DURATION = dt.timedelta(seconds=2)
_MAX_COUNTED = 10_000
_SKIPPED = [plan_result for plan_result in Edit.PlanResult if plan_result != Edit.PlanResult.CHANGE]


@dataclass(frozen=True)
class Progress:
    statuses: dict[str, int]
    plan_results: dict[str, int]
    per_second: float | None
    seconds_left: float | None

    def count(self, *statuses: EditStatus) -> int:
        """How many edits have one of these statuses."""
        return sum(self.statuses.get(status, 0) for status in statuses)

    @property
    def total(self) -> int:
        """How many edits there are, not counting skipped ones."""
        return sum(self.statuses.values()) - self.count(EditStatus.SKIPPED)

    @property
    def ended(self) -> int:
        return self.count(*ENDED) - self.count(EditStatus.SKIPPED)


def progress(bulk_edit: BulkEdit) -> Progress:
    statuses = _counted(bulk_edit.edits.all(), "status")
    plan_results = _counted(bulk_edit.edits.filter(plan_result__in=_SKIPPED), "plan_result")
    # All other edits are changes: subtracting avoids counting most of a large plan twice.
    if (changes := sum(statuses.values()) - sum(plan_results.values())) > 0:
        plan_results = {Edit.PlanResult.CHANGE.value: changes} | plan_results
    ended = sum(statuses.get(status, 0) for status in ENDED)
    per_second = left = None
    if bulk_edit.is_in_progress and bulk_edit.running_since is not None:
        elapsed = clock.now() - bulk_edit.running_since
        if elapsed >= _MIN_DURATION and ended > bulk_edit.ended_before:
            per_second = (ended - bulk_edit.ended_before) / elapsed.total_seconds()
            left = (sum(statuses.values()) - ended) / per_second
    return Progress(statuses, plan_results, per_second, left)


def waiting(bulk_edit: BulkEdit) -> dict[str, int]:
    """The number of pending edits by wait reason, leaving out edits that only wait for their turn.

    Counts at most the _MAX_COUNTED oldest edits.
    """
    pending = bulk_edit.edits.filter(status=EditStatus.PENDING).order_by("pk")
    counts = Counter(pending.values_list("wait_reason", flat=True)[:_MAX_COUNTED])
    return {reason: count for reason, count in counts.items() if reason}


def waiting_in_words(bulk_edit: BulkEdit) -> str:
    """A text such as "3 for the run to end, 1 for the next attempt". Empty if all edits only wait for their turn."""
    counts = waiting(bulk_edit)
    return ", ".join(
        f"{count:,} for {label[0].lower()}{label[1:]}"
        for reason, label in Edit.WaitReason.choices
        if (count := counts.get(reason))
    )


def changed_since(bulk_edit: BulkEdit) -> int:
    """How many runs of a plan have changed since it was made, as far as the mirror knows."""
    if bulk_edit.status != BulkEditStatus.PLANNED:
        return 0
    planned = Edit.objects.filter(bulk_edit=bulk_edit, status=EditStatus.PLANNED)
    return planned.filter(run__requested_at__gt=bulk_edit.planned_at).count()


def _counted(edits: QuerySet[Edit], column: str) -> dict[str, int]:
    return dict(edits.order_by().values_list(column).annotate(Count("pk")))
