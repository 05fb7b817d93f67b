import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.db import connection
from pytest_django import Settings

from runsadmin.models import Edit, Run
from tests.conftest import Connect
from tests.crashes import judge
from tests.crashes.processes import RecordedSandbox
from tests.crashes.scene import IMPATIENT, Scene, timeouts, url_of_the_database
from tests.faults.writer import KEY, writing

# A SQLite file has no process that could die.
collect_ignore = [] if connection.vendor == "postgresql" else ["test_postgres.py"]


@pytest.fixture(scope="session")
def recorded_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RecordedSandbox]:
    sandbox = RecordedSandbox.in_folder(tmp_path_factory.mktemp("sandbox"))
    yield sandbox
    sandbox.stop()


@pytest.fixture
def impatient_here(settings: Settings, connect: Connect, recorded_sandbox: RecordedSandbox) -> None:
    """What the processes are told, for this one."""
    settings.RUNSADMIN_SETTLING_TIME = float(IMPATIENT["RUNSADMIN_SETTLING_TIME"])
    connect(URL=recorded_sandbox.url, API_KEY=recorded_sandbox.key, **timeouts())


@pytest.fixture
def scene(
    impatient_here: None, transactional_db: None, recorded_sandbox: RecordedSandbox, alice: User, tmp_path: Path
) -> Iterator[Scene]:
    recorded_sandbox.reset()
    scene = Scene(url_of_the_database(), recorded_sandbox, tmp_path, alice)
    yield scene
    scene.end()
    shutil.rmtree(tmp_path, ignore_errors=True)


@contextmanager
def survived(scene: Scene) -> Iterator[list[Run]]:
    """In here somebody dies, while somebody else writes. Afterwards a worker is started, and everything is judged."""
    runs = scene.make_runs(3)
    with writing(scene.sandbox, *(run.upstream_id for run in runs)):
        yield runs
        scene.let_claims_run_out()
        scene.worker()
        scene.wait_for_outcomes()
    assert {edit.status for edit in Edit.objects.all()} == {Edit.Status.APPLIED}
    assert judge.repeated(scene.events) == []
    assert judge.lost(scene.events) == []
    assert scene.misplaced() == []
    assert scene.differing(apart_from=KEY) == []
    scene.wait_for(scene.begin_reading_all())
    assert scene.differing() == []
