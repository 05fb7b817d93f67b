"""The tables of legal changes."""

import pytest
from django.db.models import TextChoices

from runsadmin.models import bulk_edit, edit, sync

ENDS = {
    "edit": {"applied", "differs", "conflict", "rejected", "skipped", "cancelled"},
    "sync": {"completed", "completed_with_errors", "failed", "cancelled"},
    "bulk edit": {"cancelled", "failed", "expired"},
}


@pytest.mark.parametrize(
    ("changes", "statuses"),
    [
        (edit.TRANSITIONS, edit.EditStatus),
        (sync.TRANSITIONS, sync.SyncStatus),
        (bulk_edit.TRANSITIONS, bulk_edit.BulkEditStatus),
    ],
)
def test_every_status_has_its_row_and_every_change_its_reason(
    changes: dict[TextChoices, dict[TextChoices, str]], statuses: type[TextChoices]
) -> None:
    assert set(changes) == set(statuses)
    assert all(reason for targets in changes.values() for reason in targets.values())


def test_an_end_leads_nowhere_but_the_failed_may_be_tried_again() -> None:
    assert {status.value for status, targets in edit.TRANSITIONS.items() if not targets} == ENDS["edit"]
    assert {status.value for status, targets in sync.TRANSITIONS.items() if not targets} == ENDS["sync"]
    assert {status.value for status, targets in bulk_edit.TRANSITIONS.items() if not targets} == ENDS["bulk edit"]
    assert set(edit.TRANSITIONS[edit.EditStatus.FAILED]) == {edit.EditStatus.PENDING}
    assert set(bulk_edit.TRANSITIONS[bulk_edit.BulkEditStatus.COMPLETED]) == {bulk_edit.BulkEditStatus.QUEUED}


def test_nothing_is_sent_again_from_unknown_without_going_back_to_pending() -> None:
    assert edit.EditStatus.SENDING not in edit.TRANSITIONS[edit.EditStatus.UNKNOWN]


@pytest.mark.django_db
def test_a_change_that_is_not_in_the_table_moves_no_row() -> None:
    sync.Sync.objects.create(connection="default", status="completed")
    assert sync.Sync.objects.all().transition_to(sync.SyncStatus.RUNNING) == 0
