"""`as_of`: when a run was last known to be unchanged upstream. A sync updates it without writing unchanged runs."""

import datetime as dt
import time
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from runsadmin.models import Run, Sync, Thread
from runsadmin.services import runs, syncs, threads
from tests.sandbox_client import Json, Sandbox, make_run

pytestmark = pytest.mark.django_db(transaction=True)

FULL, INCREMENTAL = Sync.Kind.FULL, Sync.Kind.INCREMENTAL
LONG_AGO = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def sync(kind: Sync.Kind) -> None:
    started = syncs.start(connection="default", kind=kind, actor=None)
    assert syncs.run(started, until=time.monotonic() + 60).status == Sync.Status.COMPLETED


def as_of(upstream_id: str) -> dt.datetime:
    return Run.objects.with_as_of().get(upstream_id=upstream_id).as_of


@pytest.fixture
def mirrored(sandbox: Sandbox, alice: User) -> list[Json]:
    """250 mirrored runs of one thread, newest first, last read long ago."""
    runs = [make_run(thread_id="thread_a", created_at=1_700_000_000 + number) for number in range(250)]
    sandbox.put_runs(runs)
    threads.track(connection="default", thread_ids=["thread_a"], actor=alice)
    sync(FULL)
    Run.objects.update(requested_at=LONG_AGO, received_at=LONG_AGO)
    Thread.objects.update(fully_checked_at=LONG_AGO)
    return runs[::-1]


def test_refresh_updates_as_of(sandbox: Sandbox, mirror_run: Callable[..., Run], alice: User) -> None:
    run = mirror_run(metadata={"team": "blue"})
    Run.objects.update(requested_at=LONG_AGO, received_at=LONG_AGO)
    before = timezone.now()
    refreshed = runs.refresh(run=run, actor=alice)
    assert as_of(run.upstream_id) > before
    assert refreshed.version == run.version


def test_full_sync_updates_as_of_for_all(mirrored: list[Json]) -> None:
    before = timezone.now()
    sync(FULL)
    assert min(as_of(run["id"]) for run in mirrored) > before
    assert not Run.objects.exclude(received_at=LONG_AGO).exists()


def test_incremental_sync_updates_as_of_if_listed(mirrored: list[Json]) -> None:
    before = timezone.now()
    sync(INCREMENTAL)
    updated = [as_of(run["id"]) > before for run in mirrored]
    assert updated == [True] * 100 + [False] * 150
    assert not Run.objects.exclude(received_at=LONG_AGO).exists()


def test_unlisted_run_keeps_its_as_of(mirrored: list[Json], sandbox: Sandbox, alice: User) -> None:
    """An unlisted run is not confirmed, and neither are runs with the same or an earlier creation time."""
    thread = Thread.objects.get()
    unlisted = Run.objects.get(upstream_id=mirrored[10]["id"])
    Run.objects.filter(upstream_id=mirrored[9]["id"]).update(created_at=unlisted.created_at)
    sandbox.delete_run(unlisted.upstream_id)
    before = timezone.now()
    sync(INCREMENTAL)
    updated = [as_of(run["id"]) > before for run in mirrored[:100]]
    assert updated == [True] * 9 + [False] * 91
    assert thread.missing_since is None


@pytest.mark.parametrize("field", ["missing_since", "needs_refresh_since"])
def test_list_does_not_confirm_uncertain_run(mirrored: list[Json], field: str) -> None:
    sync(INCREMENTAL)
    Run.objects.filter(upstream_id=mirrored[0]["id"]).update(**{field: timezone.now()})
    assert as_of(mirrored[0]["id"]) == LONG_AGO
