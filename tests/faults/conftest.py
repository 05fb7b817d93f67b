"""Fixtures for tests of faults: short timeouts, and an edit while another client writes to the same run."""

import datetime as dt
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from pytest_django import Settings

from runsadmin.metadata import MetadataPatch
from runsadmin.models import Edit, Run
from runsadmin.models.edit import UNSETTLED
from runsadmin.services import edits, runs
from tests.conftest import Connect
from tests.faults.writer import Writer, writing
from tests.sandbox_client import Sandbox

TIMEOUT = 0.3  # Seconds to connect, and again to read.
SETTLING_TIME = 0.4  # Seconds.
RED = MetadataPatch({"team": "red"})


@dataclass
class Scenario:
    """One run, alice's edit of it, and another client that writes upstream."""

    sandbox: Sandbox
    alice: User
    run: Run
    writer: Writer

    def record(self, patch: MetadataPatch = RED) -> Edit:
        return edits.record(run=self.run, patch=patch, actor=self.alice, source=Edit.Source.API)

    def push(self, patch: MetadataPatch = RED) -> Edit:
        return edits.push(self.record(patch))

    def process_due(self, edit: Edit, *, timeout: float = 10) -> Edit:
        """Processes due edits until this one has ended, without the pauses between attempts."""
        deadline = time.monotonic() + timeout
        while not edit.has_ended and time.monotonic() < deadline:
            Edit.objects.filter(status__in=UNSETTLED).update(next_attempt_at=timezone.now())
            edits.process_due(until=time.monotonic() + 5)
            edit.refresh_from_db()
            time.sleep(0.02)
        return edit

    def check(self, *, posts: int, team: str | None = "red", max_delay: float = 0.0) -> None:
        """Checks the number of POSTs, that the mirror equals upstream, and that no pair is lost."""
        self.writer.stop()
        upstream = self.sandbox.metadata(self.run.upstream_id)
        assert upstream.get("team") == team
        assert self.mirror.metadata.get("team") == team, "The mirror must be up to date before the refresh."
        runs.refresh(run=self.run, actor=self.alice)
        assert self.mirror.metadata == upstream
        assert len(self.sandbox.posts(self.run.upstream_id)) == posts
        assert self.writer.lost(self.sandbox.log(), max_delay=max_delay) == []

    @property
    def mirror(self) -> Run:
        return Run.objects.get(pk=self.run.pk)


@pytest.fixture
def short_timeouts(settings: Settings, sandbox: Sandbox, connect: Connect) -> None:
    settings.RUNSADMIN_SETTLING_TIME = SETTLING_TIME
    connect(CONNECT_TIMEOUT=TIMEOUT, READ_TIMEOUT=TIMEOUT)


@pytest.fixture
def scenario(short_timeouts: None, sandbox: Sandbox, mirror_run: Callable[..., Run], alice: User) -> Iterator[Scenario]:
    mirror_run(thread_id="thread_other", id="run_other")  # The run that a probe fetches after a 404.
    run = mirror_run(metadata={"team": "blue"})
    with writing(sandbox, run.upstream_id) as writer:
        yield Scenario(sandbox, alice, run, writer)


@contextmanager
def at_step(step: str, action: Callable[[], None]) -> Iterator[None]:
    """Calls the action once, when a push logs this step."""

    class StepHandler(logging.Handler):
        done = False

        def emit(self, record: logging.LogRecord) -> None:
            if getattr(record, "step", None) == step and not self.done:
                self.done = True
                action()

    handler, logger = StepHandler(logging.DEBUG), logging.getLogger("runsadmin.services.edits")
    original_level = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(original_level)


def seconds_until_next_attempt(edit: Edit) -> float:
    assert edit.next_attempt_at is not None
    return (edit.next_attempt_at - timezone.now()) / dt.timedelta(seconds=1)
