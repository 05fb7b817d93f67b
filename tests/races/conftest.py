"""A race: two scripted processes, three runs, another client that writes to them, and checks at the end."""

import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from pytest_django import DjangoDbBlocker, Settings

from loadtests import log_checks
from loadtests.environment import Environment, database_url, timeouts
from loadtests.processes import RecordedSandbox
from runsadmin.models import Edit, Run, Sync
from runsadmin.models.edit import UNSETTLED
from runsadmin.services import edits, marked_runs
from tests.conftest import Connect
from tests.crashes.conftest import recorded_sandbox  # noqa: F401 - a fixture
from tests.faults.writer import KEY, writing
from tests.races.scripted_process import ScriptedProcess
from tests.waiting import until

SHORT_TIMEOUTS = {
    "RUNSADMIN_UPSTREAM_CONNECT_TIMEOUT": "0.4",
    "RUNSADMIN_UPSTREAM_READ_TIMEOUT": "0.4",
    "RUNSADMIN_SETTLING_TIME": "0.6",
}
# The rounds of each race, divided among the orders of its steps. `python -m tests.races.hundred` runs a hundred.
ROUNDS = int(os.environ.get("RACE_ROUNDS", "1"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    orders = math.prod(len(mark.args[1]) for mark in metafunc.definition.iter_markers("parametrize"))
    metafunc.fixturenames.append("round_number")
    metafunc.parametrize("round_number", range(math.ceil(ROUNDS / orders)), ids="round-{}".format)


@dataclass
class Race:
    environment: Environment
    first: ScriptedProcess
    second: ScriptedProcess
    runs: list[Run]

    @property
    def run(self) -> Run:
        return self.runs[0]

    @property
    def mirror(self) -> Run:
        return Run.objects.get(pk=self.run.pk)

    def record(self, value: str, run: Run | None = None) -> Edit:
        return self.environment.record(run or self.run, value)

    def sync(self) -> Sync:
        return self.environment.start_full_sync()

    def process_due(self) -> None:
        """Does the work of the workers until every edit has its outcome, without pauses between attempts."""

        def is_settled() -> bool:
            unsettled = Edit.objects.filter(status__in=UNSETTLED)
            unsettled.update(next_attempt_at=timezone.now())
            edits.process_due(until=time.monotonic() + 5)
            marked_runs.refresh_all()
            return not unsettled.exists() and not Run.objects.filter(needs_refresh_since__isnull=False).exists()

        until(is_settled)

    def wait_for_posts(self, count: int) -> None:
        until(lambda: len(log_checks.writes(self.environment.events)) >= count)

    def posts(self, value: str) -> int:
        """How often this value of `team` was sent."""
        return sum(write.intended.get("team") == value for write in log_checks.writes(self.environment.events))

    def outcomes(self) -> list[str]:
        return list(Edit.objects.order_by("pk").values_list("status", flat=True))


@dataclass
class ProcessPool:
    """Reuses processes between tests, because starting one is slow. Replaces a process that is still busy."""

    environment: Environment
    processes: list[ScriptedProcess] = field(default_factory=list)

    def two_processes(self) -> tuple[ScriptedProcess, ScriptedProcess]:
        for process in self.processes:
            if process.is_busy:
                process.kill()
        self.processes = [process for process in self.processes if not process.is_busy]
        self.processes += [ScriptedProcess(self.environment) for _ in range(2 - len(self.processes))]
        return self.processes[0], self.processes[1]


# Not for the session: other tests need to be the only user of the database.
@pytest.fixture(scope="package")
def process_pool(
    django_db_setup: None,
    django_db_blocker: DjangoDbBlocker,
    recorded_sandbox: RecordedSandbox,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ProcessPool]:
    with django_db_blocker.unblock():
        url = database_url()
    pool = ProcessPool(Environment(url, recorded_sandbox, tmp_path_factory.mktemp("races"), User(), SHORT_TIMEOUTS))
    yield pool
    pool.environment.end()


@pytest.fixture
def race(
    transactional_db: None, process_pool: ProcessPool, alice: User, settings: Settings, connect: Connect
) -> Iterator[Race]:
    """After the test, pushes due edits, and checks that no pair was lost and no edit was sent twice."""
    environment, sandbox = process_pool.environment, process_pool.environment.sandbox
    sandbox.reset()
    settings.RUNSADMIN_SETTLING_TIME = float(SHORT_TIMEOUTS["RUNSADMIN_SETTLING_TIME"])
    connect(URL=sandbox.url, API_KEY=sandbox.key, **timeouts(SHORT_TIMEOUTS))
    environment.alice = alice
    race = Race(environment, *process_pool.two_processes(), environment.make_runs(3))
    with writing(sandbox, *(run.upstream_id for run in race.runs), pause=0.03):
        yield race
        race.process_due()
    assert log_checks.repeated(environment.events) == []
    assert log_checks.lost(environment.events) == []
    assert environment.wrong_values() == []
    assert environment.differences(ignoring=KEY) == []
