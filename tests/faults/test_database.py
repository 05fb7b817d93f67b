"""Database faults during an edit: they raise a clear error, nothing is half written, and the edit continues."""

import datetime as dt
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import DatabaseError, OperationalError, connection
from django.utils import timezone

from runsadmin import db_errors
from runsadmin.metadata import MetadataPatch
from runsadmin.models import Edit, EditStatus, Run
from runsadmin.services import edits
from tests.faults.conftest import Scenario, at_step
from tests.faults.database_faults import CutConnection, DatabaseFault, FullDisk, LockedFile, ReadOnly

pytestmark = pytest.mark.django_db(transaction=True)

# Too large to be stored on a full disk.
LONG = MetadataPatch({"team": "red", **{f"k{number}": "x" * 512 for number in range(12)}})


FAULTS: dict[str, list[type[DatabaseFault]]] = {"sqlite": [FullDisk, LockedFile], "postgresql": [CutConnection]}


@pytest.fixture(params=FAULTS[connection.vendor])
def fault(request: pytest.FixtureRequest) -> DatabaseFault:
    kind: type[DatabaseFault] = request.param
    return kind()


@contextmanager
def expect_and_end(fault: DatabaseFault) -> Iterator[None]:
    """Expects the database's own error, not one that results from it, and ends the fault."""
    try:
        with pytest.raises(OperationalError):
            yield
    finally:
        fault.end()


def expire_claims() -> None:
    """Backdates the end of every lease, so that it has expired."""
    Edit.objects.filter(claim_token__isnull=False).update(claimed_until=timezone.now() - dt.timedelta(seconds=1))


def test_unrecorded_edit_is_not_sent(scenario: Scenario, fault: DatabaseFault) -> None:
    with expect_and_end(fault):
        fault.begin()
        scenario.record(LONG)
    assert not Edit.objects.exists()
    assert scenario.push(LONG).status == EditStatus.APPLIED
    scenario.check(posts=1)


@pytest.mark.parametrize("step", ["claimed", "fetched", "responded"])
def test_database_fault_loses_nothing(scenario: Scenario, fault: DatabaseFault, step: str) -> None:
    edit = scenario.record(LONG)
    with expect_and_end(fault), at_step(step, fault.begin):
        edits.push(edit)
    edit.refresh_from_db()
    assert edit.status in (EditStatus.SENDING, EditStatus.PENDING, EditStatus.UNKNOWN)
    expire_claims()
    assert scenario.process_due(edit).status == EditStatus.APPLIED
    scenario.check(posts=1)


def test_fault_of_one_edit_does_not_stop_others(scenario: Scenario, fault: DatabaseFault) -> None:
    first, other = scenario.record(LONG), Run.objects.get(upstream_id="run_other")
    second = edits.record(run=other, patch=LONG, actor=scenario.alice, source=Edit.Source.API)
    Edit.objects.update(next_attempt_at=timezone.now() - dt.timedelta(seconds=1))
    with suppress(DatabaseError), at_step("responded", fault.begin):
        edits.process_due(until=float("inf"))
    fault.end()
    expire_claims()
    assert scenario.process_due(first).status == EditStatus.APPLIED
    assert scenario.process_due(second).status == EditStatus.APPLIED


@pytest.mark.parametrize("command", [["track_threads", "thread_a", "--actor", "alice"], ["worker"]])
def test_command_reports_fault_in_one_line(alice: User, command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    fault = ReadOnly()
    fault.begin()
    try:
        with pytest.raises(CommandError) as raised:
            call_command(*command)
    finally:
        fault.end()
    assert str(raised.value).startswith("The database failed: ")
    assert str(raised.value).endswith(". What was saved before is kept. Run this again later.")
    assert raised.value.__suppress_context__  # Otherwise, a traceback would be shown.


def test_error_of_the_database_is_one_line() -> None:
    error = OperationalError("connection failed: Connection refused\n\tIs the server running on that host?")
    assert db_errors.described(error) == "The database failed: connection failed: Connection refused."


@pytest.mark.only_on("sqlite")
def test_locked_database_still_supports_json() -> None:
    fault = LockedFile()
    fault.begin()
    try:
        assert connection.copy().features.supports_json_field
    finally:
        fault.end()
