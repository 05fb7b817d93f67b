"""Whatever a server does, every edit ends, every applied edit was really written, and no other pair is lost."""

import logging
import time
from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from runsadmin.bulk_patch import BulkPatch
from runsadmin.errors import RunsAdminError
from runsadmin.metadata import MetadataPatch
from runsadmin.models import BulkEdit, ConnectionState, Edit, Run, Sync, Thread
from runsadmin.models.bulk_edit import IN_PROGRESS
from runsadmin.models.edit import UNSETTLED
from runsadmin.services import bulk_edits, edits, gateway, probes, syncs
from runsadmin.services.syncs import claimed
from tests.bulk import complete_plan
from tests.conftest import Connect
from tests.fake_upstream import FakeUpstream
from tests.faults.random_servers import TIMEOUT, RandomServer

pytestmark = pytest.mark.django_db(transaction=True)

CASES_PER_TEST = 10
ROUNDS = 4
# Once the server is correct, all edits must end in this time. Each lost response takes as long as its timeouts.
CORRECT_SECONDS = 30


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    cases, first = metafunc.config.getoption("server_cases"), metafunc.config.getoption("server_seed")
    seeds = range(first, first + cases)
    batches = [seeds[start : start + CASES_PER_TEST] for start in range(0, cases, CASES_PER_TEST)]
    metafunc.parametrize("seeds", batches, ids=str)


@pytest.fixture
def upstream(connect: Connect, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeUpstream]:
    settings.RUNSADMIN_SETTLING_TIME = 0
    monkeypatch.setattr(gateway, "DEFAULT_BACK_OFF", 0.02)
    monkeypatch.setattr(claimed, "FIRST_PAUSE", 0.01)
    with FakeUpstream() as upstream:
        connect(URL=upstream.url, API_KEY="key", CONNECT_TIMEOUT=TIMEOUT, READ_TIMEOUT=TIMEOUT, CONCURRENCY=4)
        yield upstream


def test_nothing_is_lost(
    seeds: range, upstream: FakeUpstream, alice: User, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    client.force_login(alice)
    for seed in seeds:
        caplog.clear()
        try:
            _run_case(RandomServer(upstream, seed), alice)
        except AssertionError as error:
            raise AssertionError(f"Seed {seed}: {error}") from error
        tracebacks = [record for record in caplog.records if record.levelno >= logging.ERROR]
        assert tracebacks == [], f"Seed {seed}"
    for path in ("/api/v1/runs/", "/api/v1/edits/"):
        _read_pages(client, path)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def _run_case(server: RandomServer, alice: User) -> None:
    ConnectionState.objects.all().delete()
    Thread.objects.update(tracked=False)
    for thread_id in server.threads:
        Thread.objects.create(connection="default", upstream_id=thread_id)
    _sync(server)
    server.is_correct = True
    _sync(server)
    server.is_correct = False

    runs = Run.objects.filter(thread__upstream_id__in=server.threads).order_by("upstream_id")
    _record_edits(server, list(runs.select_related("thread")), alice)
    written: dict[str, str] = {}  # The latest write of another client to each run.
    for _ in range(ROUNDS):
        _process_due()
        run_id = server.rng.choice(sorted(server.history))
        server.write(run_id, {"other": f"{server.rng.random()}"})
        written[run_id] = server.upstream.metadata(run_id)["other"]
        if server.rng.random() < 0.3:
            _sync(server)
    server.is_correct = True
    deadline = time.monotonic() + CORRECT_SECONDS
    while (_unsettled(server).exists() or _in_progress().exists()) and time.monotonic() < deadline:
        _process_due()
    _check(server, written)


def _record_edits(server: RandomServer, runs: list[Run], alice: User) -> None:
    """Records single edits, and applies a bulk edit."""
    rng = server.rng
    for run in rng.sample(runs, min(len(runs), 2)):
        patch = MetadataPatch({"team": "red"}) if rng.random() < 0.7 else MetadataPatch(remove=frozenset({"team"}))
        base = run.metadata if rng.random() < 0.5 else None
        try:
            edits.record(run=run, patch=patch, actor=alice, source=Edit.Source.API, base=base)
        except RunsAdminError:
            continue  # An edit that cannot be sent is not recorded.
    selection = bulk_edits.by_ids([run.upstream_id for run in runs])
    triage = BulkPatch({"triage": "{model}" if rng.random() < 0.3 else "done"})
    bulk_edit = bulk_edits.plan(
        selection=selection, patch=triage, actor=alice, source=Edit.Source.ADMIN, reason="Sorting"
    )
    bulk_edits.apply(bulk_edit=complete_plan(bulk_edit), actor=alice)


def _process_due() -> None:
    ConnectionState.objects.update(not_before=None, next_probe_at=timezone.now())
    probes.probe_held()
    Edit.objects.filter(status__in=UNSETTLED).update(next_attempt_at=timezone.now())
    edits.process_due(until=time.monotonic() + 2)
    bulk_edits.advance_statuses()


def _sync(server: RandomServer) -> None:
    server.listed.clear()
    started = syncs.start(connection="default", kind=Sync.Kind.FULL, actor=None)
    done = syncs.run(started, until=time.monotonic() + 5)
    if done.status == Sync.Status.COMPLETED:
        mirrored = set(Run.objects.filter(upstream_id__in=server.listed).values_list("upstream_id", flat=True))
        assert server.listed <= mirrored, "A completed sync has not mirrored a listed run."
    elif done.status in (Sync.Status.RUNNING, Sync.Status.PAUSED):
        Sync.objects.filter(pk=done.pk).transition_to(Sync.Status.CANCELLED, finished_at=timezone.now())


def _unsettled(server: RandomServer) -> QuerySet[Edit]:
    return Edit.objects.filter(run__thread__upstream_id__in=server.threads, status__in=UNSETTLED)


def _in_progress() -> QuerySet[BulkEdit]:
    return BulkEdit.objects.filter(status__in=IN_PROGRESS)


def _check(server: RandomServer, written: dict[str, str]) -> None:
    unsettled = [(edit.pk, edit.status, edit.wait_reason, edit.detail) for edit in _unsettled(server)]
    assert unsettled == [], "An edit has no outcome."
    for edit in Edit.objects.filter(run__thread__upstream_id__in=server.threads).select_related("run"):
        if edit.status == Edit.Status.APPLIED:
            assert edit.after is not None
            history = server.history[edit.run.upstream_id]
            assert dict(edit.after) in history, f"{edit} is applied, but upstream never had its metadata."
            assert edit.patch.apply(edit.after) == edit.after, f"{edit} is applied, but its patch is not."
    for run_id, other in written.items():
        assert server.upstream.metadata(run_id).get("other") == other, f"A pair of {run_id} is lost."
    for run_id in server.history:
        assert server.upstream.metadata(run_id).get("owner") == "lee", f"The owner of {run_id} is lost."


def _read_pages(client: Client, url: str | None) -> None:
    """Reads all pages of a list."""
    while url:
        response = client.get(url, {"page_size": 100} if "?" not in url else None)
        assert response.status_code == 200
        url = response.json()["next"]
