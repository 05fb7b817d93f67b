"""Upstream is killed at each step and started again. Runs only on SQLite, because the database makes no difference."""

import pytest

from loadtests.crash_points import PUSHING, RECONCILING, Crash
from loadtests.environment import Environment
from tests.crashes.conftest import recovery_checked
from tests.waiting import until


@pytest.mark.parametrize("step", [*PUSHING, *RECONCILING])
def test_edits_wait_for_a_killed_upstream(environment: Environment, step: str) -> None:
    with recovery_checked(environment) as runs:
        if step in RECONCILING:
            environment.sandbox.fault("lose", method="POST")
        environment.record(runs[0], "red")
        environment.record(runs[0], "green")
        worker = environment.worker(Crash(step, target_pid=environment.sandbox.process.pid))
        until(environment.sandbox.is_dead)
        environment.sandbox.restart()
        environment.end_pauses()
        environment.wait_for_outcomes()
        worker.kill()
