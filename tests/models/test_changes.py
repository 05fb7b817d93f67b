"""The tables of legal changes."""

import pytest
from django.db.models import TextChoices

from runsadmin.models import edit, sync

ENDS = {
    "edit": {"applied", "differs", "conflict", "rejected", "skipped", "cancelled"},
    "sync": {"completed", "completed_with_errors", "failed", "cancelled"},
}


@pytest.mark.parametrize(("changes", "statuses"), [(edit.CHANGES, edit.EditStatus), (sync.CHANGES, sync.SyncStatus)])
def test_every_status_has_its_row_and_every_change_its_reason(
    changes: dict[TextChoices, dict[TextChoices, str]], statuses: type[TextChoices]
) -> None:
    assert set(changes) == set(statuses)
    assert all(reason for targets in changes.values() for reason in targets.values())


def test_an_end_leads_nowhere_but_from_failed_back_to_pending() -> None:
    assert {status.value for status, targets in edit.CHANGES.items() if not targets} == ENDS["edit"]
    assert {status.value for status, targets in sync.CHANGES.items() if not targets} == ENDS["sync"]
    assert set(edit.CHANGES[edit.EditStatus.FAILED]) == {edit.EditStatus.PENDING}


def test_nothing_is_sent_again_from_unknown_without_going_back_to_pending() -> None:
    assert edit.EditStatus.SENDING not in edit.CHANGES[edit.EditStatus.UNKNOWN]


@pytest.mark.django_db
def test_a_change_that_is_not_in_the_table_moves_no_row() -> None:
    sync.Sync.objects.create(connection="default", status="completed")
    assert sync.Sync.objects.all().change_to(sync.SyncStatus.RUNNING) == 0
