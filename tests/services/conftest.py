"""Runs for tests of bulk edits."""

import pytest

from runsadmin.models import Run
from tests.conftest import Connect, MakeRun
from tests.sandbox_client import Sandbox


@pytest.fixture
def twelve_runs(mirror_run: MakeRun) -> list[Run]:
    """Twelve runs in two threads."""
    return [mirror_run(thread_id=f"thread_{n % 2}", metadata={"team": "blue", "n": str(n)}) for n in range(12)]


@pytest.fixture
def slow_upstream(twelve_runs: list[Run], sandbox: Sandbox, connect: Connect) -> None:
    """Makes upstream slow, and sends it only two requests at a time, to leave time for stopping a worker."""
    connect(CONCURRENCY=2)
    sandbox.settings(latency_ms=300)
