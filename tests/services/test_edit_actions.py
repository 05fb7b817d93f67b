"""Undoing, cancelling and retrying an edit."""

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from runsadmin.errors import InvalidTransition, NotAllowed
from runsadmin.metadata import MetadataPatch
from runsadmin.models import Edit, EditStatus
from runsadmin.services import edits, runs
from tests.conftest import MakeRun
from tests.sandbox_client import Sandbox
from tests.services.single_edit import RED, process_due, record

pytestmark = pytest.mark.django_db(transaction=True)


def test_undo_reverts_only_its_edit(sandbox: Sandbox, mirror_run: MakeRun, alice: User, bob: User) -> None:
    run = mirror_run(metadata={"team": "blue", "old": "1"})
    edit = edits.push(record(run, alice, MetadataPatch({"team": "red", "new": "2"}, frozenset({"old"}))))
    sandbox.set_metadata(run.upstream_id, {"team": "red", "new": "2", "later": "3"})
    undone = edits.push(edits.undo(edit=edit, actor=bob, source=Edit.Source.ADMIN))
    assert (undone.status, undone.undoes, undone.actor) == (Edit.Status.APPLIED, edit, bob)
    assert sandbox.metadata(run.upstream_id) == {"team": "blue", "old": "1", "later": "3"}


def test_undo_of_undo_is_redo(sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> None:
    run = mirror_run(metadata={"team": "blue"})
    edit = edits.push(record(run, alice))
    undone = edits.push(edits.undo(edit=edit, actor=alice, source=Edit.Source.ADMIN))
    edits.push(edits.undo(edit=undone, actor=alice, source=Edit.Source.ADMIN))
    assert sandbox.metadata(run.upstream_id) == {"team": "red"}


def test_undo_skips_keys_changed_later(sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> None:
    run = mirror_run(metadata={"team": "blue", "env": "dev"})
    edit = edits.push(record(run, alice, MetadataPatch({"team": "red", "env": "prod"})))
    sandbox.set_metadata(run.upstream_id, {"team": "green", "env": "prod"})
    runs.refresh(run=run, actor=alice)
    undo = edits.undo(edit=edit, actor=alice, source=Edit.Source.ADMIN)
    assert "team" in undo.detail
    edits.push(undo)
    assert sandbox.metadata(run.upstream_id) == {"team": "green", "env": "dev"}


def test_undo_without_changes_is_skipped(sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> None:
    run = mirror_run(metadata={"team": "blue"})
    edit = edits.push(record(run, alice))
    sandbox.set_metadata(run.upstream_id, {"team": "green"})
    runs.refresh(run=run, actor=alice)
    assert edits.undo(edit=edit, actor=alice, source=Edit.Source.ADMIN).status == Edit.Status.SKIPPED


def test_second_undo_has_nothing_to_undo(sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> None:
    run = mirror_run(metadata={"team": "blue", "env": "dev"})
    edit = edits.push(record(run, alice, MetadataPatch({"team": "red", "env": "prod"})))
    edits.push(edits.undo(edit=edit, actor=alice, source=Edit.Source.ADMIN))
    second = edits.undo(edit=edit, actor=alice, source=Edit.Source.ADMIN)
    assert (second.status, second.detail) == (Edit.Status.SKIPPED, "There is nothing to undo.")
    sandbox.set_metadata(run.upstream_id, {"team": "blue", "env": "test"})
    runs.refresh(run=run, actor=alice)
    third = edits.undo(edit=edit, actor=alice, source=Edit.Source.ADMIN)
    assert third.detail == "Left as they are, since they were changed after the edit: env."


def test_undo_of_an_edit_without_change_is_not_purged(sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> None:
    edit = edits.push(record(mirror_run(metadata={"team": "red"}), alice))
    undo = edits.undo(edit=edit, actor=alice, source=Edit.Source.ADMIN)
    assert (undo.status, undo.detail, undo.is_purged) == (Edit.Status.SKIPPED, "There is nothing to undo.", False)


def test_only_applied_edits_are_undone(mirror_run: MakeRun, alice: User) -> None:
    edit = record(mirror_run(), alice)
    with pytest.raises(InvalidTransition, match="pending"):
        edits.undo(edit=edit, actor=alice, source=Edit.Source.ADMIN)


def test_only_unsent_edit_can_be_cancelled(sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> None:
    run = mirror_run(metadata={"team": "blue"})
    edit = edits.cancel(edit=record(run, alice), actor=alice)
    assert edit.status == Edit.Status.CANCELLED
    assert edits.push(edit).status == Edit.Status.CANCELLED
    applied = edits.push(record(run, alice))
    with pytest.raises(InvalidTransition, match="applied"):
        edits.cancel(edit=applied, actor=alice)


@pytest.mark.parametrize("action", ["undo", "retry", "cancel", "resolve"])
def test_viewer_may_run_no_action(action: str, sandbox: Sandbox, mirror_run: MakeRun, alice: User, carol: User) -> None:
    edit = edits.push(record(mirror_run(metadata={"team": "blue"}), alice))
    arguments: dict[str, dict[str, object]] = {
        "resolve": {"patch": RED, "source": Edit.Source.API},
        "undo": {"source": Edit.Source.API},
    }
    with pytest.raises(NotAllowed):
        getattr(edits, action)(edit=edit, actor=carol, **arguments.get(action, {}))
    assert Edit.objects.count() == 1


def test_retried_edit_belongs_to_the_user_who_retries(mirror_run: MakeRun, alice: User, bob: User) -> None:
    record(mirror_run(), alice)
    Edit.objects.update(status=EditStatus.FAILED, finished_at=timezone.now(), next_attempt_at=None)
    alice.is_active = False
    alice.save()
    edits.retry(edit=Edit.objects.get(), actor=bob)
    process_due()
    edit = Edit.objects.get()
    assert (edit.status, edit.actor) == (EditStatus.APPLIED, bob)
