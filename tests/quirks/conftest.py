"""Servers that behave as some real ones do. Each module tests one kind of behavior, with a parameter per variant."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from runsadmin.metadata import MetadataPatch
from runsadmin.models import Edit, Run, Sync, Thread
from runsadmin.models.edit import UNSETTLED
from runsadmin.services import edits, syncs
from tests.api.conftest import api  # noqa: F401 - a fixture
from tests.conftest import Connect
from tests.fake_upstream import FakeUpstream, Json
from tests.management.conftest import manage  # noqa: F401 - a fixture
from tests.sandbox_client import make_run


@pytest.fixture
def upstream(connect: Connect) -> Iterator[FakeUpstream]:
    """The upstream of the connection `default`."""
    with FakeUpstream() as upstream:
        connect(URL=upstream.url, API_KEY="key", CONNECT_TIMEOUT=1.0, READ_TIMEOUT=1.0)
        yield upstream


@pytest.fixture
def mirror_runs(upstream: FakeUpstream, db: None) -> Callable[..., list[Run]]:
    """Puts runs upstream and syncs their threads, while the server still behaves correctly."""

    def mirror_runs(*runs: Json) -> list[Run]:
        upstream.put(*runs)
        for thread_id in dict.fromkeys(run["thread_id"] for run in runs):
            thread, _ = Thread.objects.get_or_create(connection="default", upstream_id=thread_id)
            sync(thread)
        upstream.log.clear()
        mirrored = {run.upstream_id: run for run in Run.objects.select_related("thread")}
        return [mirrored[run["id"]] for run in runs]

    return mirror_runs


@pytest.fixture
def run(mirror_runs: Callable[..., list[Run]]) -> Run:
    """A run with two pairs. A probe after a 404 fetches another known run, in another thread."""
    _, run = mirror_runs(
        make_run(id="run_other", thread_id="thread_other"), make_run(metadata={"ticket": "1", "owner": "lee"})
    )
    return run


def sync(thread: Thread | None = None, kind: Sync.Kind = Sync.Kind.FULL) -> Sync:
    started = syncs.start(connection="default", kind=kind, actor=None, thread=thread)
    return syncs.run(started, until=time.monotonic() + 60)


def run_by_tasks(started: Sync) -> Sync:
    """Runs a sync to its end, one page per task."""
    for _ in range(50):
        started = syncs.run(started, until=0)
        if started.status != Sync.Status.RUNNING:
            break
    return started


def record(run: Run, actor: User, pairs: dict[str, Any] | None = None) -> Edit:
    patch = MetadataPatch(pairs or {"triage": "done"})
    return edits.record(run=run, patch=patch, actor=actor, source=Edit.Source.API)


def push(run: Run, actor: User, pairs: dict[str, Any] | None = None) -> Edit:
    return edits.push(record(run, actor, pairs))


def process_due(*, times: int = 1) -> None:
    """Makes every waiting edit due, and processes it as a worker does."""
    for _ in range(times):
        Edit.objects.filter(status__in=UNSETTLED).update(next_attempt_at=timezone.now())
        edits.process_due(until=time.monotonic() + 10)


def push_or_process(edit: Edit, *, background: bool) -> None:
    """Pushes the edit as a web request does or, in the background, as a worker does."""
    if background:
        process_due()
    else:
        edits.push(edit)
