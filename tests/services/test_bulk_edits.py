"""A bulk edit, from the choice of its runs to its undo, against a real upstream."""

import time
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User

from runsadmin.bulk_patch import BulkPatch
from runsadmin.models import BulkEdit, Edit, Run, Selection
from runsadmin.services import bulk_edits, edits
from tests.sandbox_client import Sandbox

pytestmark = pytest.mark.django_db(transaction=True)

MakeRun = Callable[..., Run]
S, E = BulkEdit.Status, Edit.Status
RED = BulkPatch({"team": "red"})


def plan(actor: User, query: str = "metadata.team:blue", patch: BulkPatch = RED, **more: object) -> BulkEdit:
    chosen = bulk_edits.by_search(query)
    return make(bulk_edits.plan(chosen=chosen, patch=patch, actor=actor, reason="moved", **more))  # type: ignore[arg-type]


def make(bulk_edit: BulkEdit) -> BulkEdit:
    return bulk_edits.go_on_planning(bulk_edit, until=time.monotonic() + 30)


def run_to_its_end(bulk_edit: BulkEdit) -> BulkEdit:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        edits.settle(until=deadline)
        bulk_edits.look_after()
        bulk_edit.refresh_from_db()
        if not bulk_edit.is_going_on:
            return bulk_edit
        time.sleep(0.05)
    raise TimeoutError


def apply(bulk_edit: BulkEdit, actor: User) -> BulkEdit:
    return run_to_its_end(bulk_edits.apply(bulk_edit=bulk_edit, actor=actor))


def statuses(bulk_edit: BulkEdit) -> dict[str, int]:
    return bulk_edits.progress(bulk_edit).statuses


@pytest.fixture
def team(mirrored: MakeRun) -> list[Run]:
    """Twelve runs of two threads."""
    return [mirrored(thread_id=f"thread_{n % 2}", metadata={"team": "blue", "n": str(n)}) for n in range(12)]


def test_a_plan_is_applied_and_upstream_the_mirror_and_the_log_agree(
    sandbox: Sandbox, team: list[Run], alice: User
) -> None:
    bulk_edit = plan(alice)
    assert (bulk_edit.status, bulk_edit.selected, statuses(bulk_edit)) == (S.PLANNED, 12, {E.PLANNED: 12})
    assert sandbox.posts() == []
    sandbox.clear_log()
    bulk_edit = apply(bulk_edit, alice)
    assert (bulk_edit.status, statuses(bulk_edit)) == (S.COMPLETED, {E.APPLIED: 12})
    for n, run in enumerate(team):
        assert Run.objects.get(pk=run.pk).metadata == sandbox.metadata(run.upstream_id) == {"team": "red", "n": str(n)}
    gets = [call for call in sandbox.log() if call["method"] == "GET"]
    assert len(gets) == 2, "A thread's runs share one look."
    assert not Selection.objects.exists()
