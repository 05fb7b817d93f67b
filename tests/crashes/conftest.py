import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.db import connection
from pytest_django import Settings

from loadtests import log_checks
from loadtests.environment import SHORT_TIMEOUTS, Environment, database_url, timeouts
from loadtests.processes import RecordedSandbox
from runsadmin.models import Edit, Run
from tests.conftest import Connect
from tests.faults.writer import KEY, writing

# SQLite has no server process to kill.
collect_ignore = [] if connection.vendor == "postgresql" else ["test_postgres.py"]


@pytest.fixture(scope="session")
def recorded_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RecordedSandbox]:
    sandbox = RecordedSandbox.in_folder(tmp_path_factory.mktemp("sandbox"))
    yield sandbox
    sandbox.stop()


@pytest.fixture
def short_timeouts(settings: Settings, connect: Connect, recorded_sandbox: RecordedSandbox) -> None:
    """Gives the test process the same short timeouts as the processes under test."""
    settings.RUNSADMIN_SETTLING_TIME = float(SHORT_TIMEOUTS["RUNSADMIN_SETTLING_TIME"])
    connect(URL=recorded_sandbox.url, API_KEY=recorded_sandbox.key, **timeouts())


@pytest.fixture
def environment(
    short_timeouts: None, transactional_db: None, recorded_sandbox: RecordedSandbox, alice: User, tmp_path: Path
) -> Iterator[Environment]:
    recorded_sandbox.reset()
    environment = Environment(database_url(), recorded_sandbox, tmp_path, alice)
    yield environment
    environment.end()
    shutil.rmtree(tmp_path, ignore_errors=True)


@contextmanager
def recovery_checked(environment: Environment) -> Iterator[list[Run]]:
    """For a block in which a process dies while another client writes.

    Afterwards a worker recovers the edits, and all results are checked.
    """
    runs = environment.make_runs(3)
    with writing(environment.sandbox, *(run.upstream_id for run in runs), pause=0.03):
        yield runs
        environment.expire_claims()
        environment.end_pauses()
        environment.worker()
        environment.wait_for_outcomes()
    assert {edit.status for edit in Edit.objects.all()} == {Edit.Status.APPLIED}
    assert log_checks.repeated(environment.events) == []
    assert log_checks.lost(environment.events) == []
    assert environment.wrong_values() == []
    assert environment.differences(ignoring=KEY) == []
    environment.wait_for_sync(environment.start_full_sync())
    assert environment.differences() == []
