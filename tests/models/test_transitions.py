"""The tables of permitted transitions are complete, and no other code writes a status."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db.models import TextChoices

from runsadmin.models import bulk_edit, edit, sync

FINAL = {
    "edit": {"applied", "differs", "conflict", "rejected", "skipped", "cancelled"},
    "sync": {"completed", "completed_with_errors", "failed", "cancelled"},
    "bulk edit": {"cancelled", "failed", "expired"},
}


@pytest.mark.parametrize(
    ("transitions", "statuses"),
    [
        (edit.TRANSITIONS, edit.EditStatus),
        (sync.TRANSITIONS, sync.SyncStatus),
        (bulk_edit.TRANSITIONS, bulk_edit.BulkEditStatus),
    ],
)
def test_transitions_have_reasons(
    transitions: dict[TextChoices, dict[TextChoices, str]], statuses: type[TextChoices]
) -> None:
    assert set(transitions) == set(statuses)
    assert all(reason for targets in transitions.values() for reason in targets.values())


def test_final_statuses_are_final() -> None:
    assert {status.value for status, targets in edit.TRANSITIONS.items() if not targets} == FINAL["edit"]
    assert {status.value for status, targets in sync.TRANSITIONS.items() if not targets} == FINAL["sync"]
    assert {status.value for status, targets in bulk_edit.TRANSITIONS.items() if not targets} == FINAL["bulk edit"]
    assert set(edit.TRANSITIONS[edit.EditStatus.FAILED]) == {edit.EditStatus.PENDING, edit.EditStatus.REJECTED}
    assert set(bulk_edit.TRANSITIONS[bulk_edit.BulkEditStatus.COMPLETED]) == {bulk_edit.BulkEditStatus.QUEUED}


def test_unknown_is_not_sent_directly() -> None:
    assert edit.EditStatus.SENDING not in edit.TRANSITIONS[edit.EditStatus.UNKNOWN]


@pytest.mark.django_db
def test_forbidden_transition_updates_no_row() -> None:
    sync.Sync.objects.create(connection="default", status="completed")
    assert sync.Sync.objects.all().transition_to(sync.SyncStatus.RUNNING) == 0


APP = Path(edit.__file__).parent.parent
# Functions that can write a status. Only `transition_to`, in models/transitions.py, may do so.
UPDATES = {"update", "aupdate", "update_rows", "bulk_update", "update_or_create"}


def status_writes(tree: ast.AST) -> Iterator[int]:
    """The numbers of lines that write a status: in an update, an assignment, or the values of an update."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name), keywords=keywords) if name in UPDATES:
                yield from (node.lineno for keyword in keywords if keyword.arg == "status" and _is_ours(keyword.value))
            case ast.Assign(targets=targets):
                yield from (target.lineno for target in targets if _is_status(target))
            case ast.AugAssign(target=target) | ast.AnnAssign(target=target) if _is_status(target):
                yield target.lineno
            case ast.Call(func=ast.Name(id="setattr"), args=[_, ast.Constant(value="status"), *_]):
                yield node.lineno
            case ast.Dict(keys=keys, values=values):
                for key, value in zip(keys, values, strict=True):
                    if isinstance(key, ast.Constant) and key.value == "status" and _names_a_status(value):
                        yield key.lineno


def _is_ours(value: ast.expr) -> bool:
    """Whether the value is a status of our models. The status of a task belongs to its backend."""
    return "TaskResultStatus" not in ast.unparse(value)


def _names_a_status(value: ast.expr) -> bool:
    """Whether the value is a status to store, such as `EditStatus.PENDING` or `status`."""
    return isinstance(value, ast.Name) or (isinstance(value, ast.Attribute) and value.attr.isupper())


def _is_status(target: ast.expr) -> bool:
    return isinstance(target, ast.Attribute) and target.attr == "status"


@pytest.mark.parametrize(
    ("code", "count"),
    [
        ("Edit.objects.filter(pk=1).update(status=S.PENDING)", 1),
        ("edit.status = S.PENDING", 1),
        ("setattr(edit, 'status', S.PENDING)", 1),
        ("values = {'status': S.PENDING}", 1),
        ("fields = {'status': run.status}", 0),
        ("Edit.objects.filter(status=S.PENDING).transition_to(S.SENDING)", 0),
        ("Edit.objects.create(status=S.SKIPPED)", 0),
    ],
)
def test_status_writes_are_found(code: str, count: int) -> None:
    assert len(list(status_writes(ast.parse(code)))) == count


def test_only_transitions_write_a_status() -> None:
    files = [
        file
        for part in ("services", "models", "engine", "management", "tasks.py")
        for file in ([APP / part] if part.endswith(".py") else (APP / part).rglob("*.py"))
        if file != APP / "models" / "transitions.py"
    ]
    found = {f"{file.relative_to(APP)}:{line}" for file in files for line in status_writes(ast.parse(file.read_text()))}
    assert len(files) > 50
    assert found == set()
