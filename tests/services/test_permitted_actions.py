"""The actions that the status of an edit or of a bulk edit permits."""

import datetime as dt
from collections.abc import Callable

import pytest
from django.contrib.auth.models import Permission, User

from runsadmin.errors import NotAllowed
from runsadmin.metadata import MetadataPatch
from runsadmin.models import BulkEdit, Edit, Run
from runsadmin.services import bulk_edits, edits
from runsadmin.services.bulk_edits import BulkEditAction
from runsadmin.services.permissions import Action
from tests.bulk import make_bulk_edit

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def run(mirror_run: Callable[..., Run]) -> Run:
    return mirror_run(metadata={"team": "blue"})


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("planned", {BulkEditAction.APPLY, BulkEditAction.CANCEL}),
        ("queued", {BulkEditAction.PAUSE, BulkEditAction.CANCEL}),
        ("paused", {BulkEditAction.RESUME, BulkEditAction.CANCEL}),
        ("completed", {BulkEditAction.RETRY, BulkEditAction.UNDO}),
    ],
)
def test_bulk_edit_actions_depend_on_status(status: str, expected: set[BulkEditAction], run: Run, alice: User) -> None:
    bulk_edit = make_bulk_edit(run.upstream_id, status, alice)
    bulk_edit.refresh_from_db()
    assert bulk_edits.permitted_actions(bulk_edit, alice) == expected


def test_expired_plan_can_only_be_discarded(run: Run, alice: User) -> None:
    bulk_edit = make_bulk_edit(run.upstream_id, "planned", alice)
    bulk_edit.expires_at = bulk_edit.created_at - dt.timedelta(seconds=1)
    assert bulk_edits.permitted_actions(bulk_edit, alice) == {BulkEditAction.CANCEL}


def test_actions_need_permissions(run: Run, alice: User, bob: User) -> None:
    bob.user_permissions.set(Permission.objects.filter(codename="add_bulkedit"))
    planner = User.objects.get(pk=bob.pk)
    planned = make_bulk_edit(run.upstream_id, "planned", alice)
    assert bulk_edits.permitted_actions(planned, planner) == {BulkEditAction.CANCEL}
    with pytest.raises(NotAllowed):
        bulk_edits.apply(bulk_edit=planned, actor=planner)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("pending", {"cancel"}),
        ("failed", {"retry"}),
        ("applied", {"undo"}),
        ("differs", {"undo"}),
        ("conflict", {"resolve"}),
        ("sending", set()),
        ("rejected", set()),
    ],
)
def test_edit_actions_depend_on_status(status: str, expected: set[str], run: Run, alice: User, carol: User) -> None:
    edit = edits.record(run=run, patch=MetadataPatch.parse({"team": "red"}), actor=alice, source=Edit.Source.API)
    edit.status = status
    assert edits.permitted_actions(edit, alice) == expected
    assert edits.permitted_actions(edit, carol) == set()


def test_failed_edit_of_cancelled_bulk_edit_is_final(run: Run, alice: User) -> None:
    bulk_edit = make_bulk_edit(run.upstream_id, "completed", alice)
    failed = bulk_edit.edits.get(status="failed")
    assert edits.permitted_actions(failed, alice) == {"retry"}
    BulkEdit.objects.filter(pk=bulk_edit.pk).update(status="cancelled")
    assert edits.permitted_actions(Edit.objects.get(pk=failed.pk), alice) == set()


@pytest.mark.parametrize("status", ["planned", "paused", "completed"])
def test_actions_that_send_need_to_edit(status: str, run: Run, alice: User, make_user: Callable[..., User]) -> None:
    bulk_edit = make_bulk_edit(run.upstream_id, status, alice)
    bulk_edit.refresh_from_db()
    applier = make_user(Action.VIEW_BULK_EDITS, Action.APPLY_BULK_EDITS)
    sending = {BulkEditAction.APPLY, BulkEditAction.RESUME, BulkEditAction.RETRY}
    assert not bulk_edits.permitted_actions(bulk_edit, applier) & sending
    for action in (bulk_edits.apply, bulk_edits.resume, bulk_edits.retry):
        with pytest.raises(NotAllowed, match=r"runsadmin\.change_run"):
            action(bulk_edit=bulk_edit, actor=applier)
