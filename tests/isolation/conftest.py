"""Bad items: each ends with its reason, and everything else goes on."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest
from django.contrib.auth.models import User

from loadtests.environment import Environment, database_url, timeouts
from loadtests.hostile_load import TIMEOUTS, refusing
from loadtests.processes import RecordedSandbox
from tests.conftest import CaptureLog, Connect
from tests.crashes.conftest import recorded_sandbox  # noqa: F401 - a fixture


class Refuse(Protocol):
    def __call__(self, table: str, condition: str, event: str = ...) -> None: ...


@pytest.fixture
def refuse(transactional_db: None) -> Iterator[Refuse]:
    """Has the database refuse some rows of a table during the test."""
    with ExitStack() as stack:
        yield lambda table, condition, event="INSERT": stack.enter_context(refusing(table, condition, event))


type Lines = Callable[[], list[str]]


@pytest.fixture
def log_lines(capture_log: CaptureLog) -> Lines:
    """Returns the lines that were logged so far, without DEBUG."""
    stream = capture_log("line")
    return lambda: [line for line in stream.getvalue().splitlines() if " DEBUG " not in line]


@pytest.fixture
def environment(
    transactional_db: None,
    recorded_sandbox: RecordedSandbox,  # noqa: F811 - the fixture
    connect: Connect,
    alice: User,
    tmp_path: Path,
) -> Iterator[Environment]:
    recorded_sandbox.reset()
    connect(URL=recorded_sandbox.url, API_KEY=recorded_sandbox.key, **timeouts(TIMEOUTS))
    environment = Environment(database_url(), recorded_sandbox, tmp_path, alice, TIMEOUTS)
    yield environment
    environment.end()
    shutil.rmtree(tmp_path, ignore_errors=True)
