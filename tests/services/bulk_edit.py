"""Steps of bulk edits, for several test modules."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from django.contrib.auth.models import User
from django.utils import timezone

from runsadmin.bulk_patch import BulkPatch
from runsadmin.models import BulkEdit, Edit, EditStatus, Run
from runsadmin.services import bulk_edits
from tests.bulk import complete_plan, push_until_settled, sending_edits
from tests.sandbox_client import Sandbox

RED = BulkPatch({"team": "red"})


def plan(actor: User, query: str = "metadata.team:blue", patch: BulkPatch = RED, **more: Any) -> BulkEdit:
    selection = bulk_edits.by_search(query)
    return complete_plan(
        bulk_edits.plan(
            selection=selection, patch=patch, actor=actor, source=Edit.Source.ADMIN, **{"reason": "moved", **more}
        )
    )


def plan_for(actor: User, *runs: Run, patch: BulkPatch = RED, **more: Any) -> BulkEdit:
    selection = bulk_edits.by_ids([run.upstream_id for run in runs])
    return complete_plan(
        bulk_edits.plan(selection=selection, patch=patch, actor=actor, source=Edit.Source.ADMIN, reason="moved", **more)
    )


def apply(bulk_edit: BulkEdit, actor: User) -> BulkEdit:
    """Applies the plan, and pushes the edits until the bulk edit is no longer in progress."""
    return push_until_settled(bulk_edits.apply(bulk_edit=bulk_edit, actor=actor))


def undo(bulk_edit: BulkEdit, actor: User) -> BulkEdit:
    return apply(plan_undo(bulk_edit, actor), actor)


def plan_undo(bulk_edit: BulkEdit, actor: User) -> BulkEdit:
    return complete_plan(
        bulk_edits.plan_undo(bulk_edit=bulk_edit, actor=actor, source=Edit.Source.ADMIN, reason="a mistake")
    )


def statuses(bulk_edit: BulkEdit) -> dict[str, int]:
    return bulk_edits.progress(bulk_edit).statuses


def only_edit(bulk_edit: BulkEdit) -> Edit:
    return bulk_edit.edits.get()


def metadata(sandbox: Sandbox, runs: list[Run]) -> list[Any]:
    return [sandbox.metadata(run.upstream_id) for run in runs]


def make_due(bulk_edit: BulkEdit) -> None:
    bulk_edit.edits.filter(status=EditStatus.PENDING).update(next_attempt_at=timezone.now())


def stop_halfway(sandbox: Sandbox, stop: Callable[[], object]) -> int:
    """Calls `stop` while a worker sends edits. Returns how many were sent: some, but not all."""
    with sending_edits(sandbox):
        stop()
    sandbox.settings(latency_ms=0)
    sent = len(sandbox.posts())
    assert 0 < sent < 12
    return sent


def planned_runs(bulk_edit: BulkEdit) -> dict[int, int]:
    """The number of edits of each run, by primary key."""
    return Counter(bulk_edit.edits.values_list("run", flat=True))
