"""The database's own constraints."""

import datetime as dt
import uuid
from collections.abc import Callable
from functools import partial

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.utils import timezone

from runsadmin.metadata import Metadata, MetadataPatch
from runsadmin.models import ConnectionState, Edit, MetadataPair, Run, Sync, Thread

pytestmark = pytest.mark.django_db

NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
SENDING = {"status": "sending", "claim_token": uuid.UUID(int=1), "claimed_until": NOW}
UNKNOWN = {"status": "unknown", "before": Metadata(), "intended": Metadata(), "sent_at": NOW}


def is_refused(make: Callable[[], object]) -> bool:
    try:
        with transaction.atomic():
            make()
    except IntegrityError:
        return True
    return False


@pytest.fixture
def run() -> Run:
    thread = Thread.objects.create(connection="default", upstream_id="thread_a")
    return Run.objects.create(
        connection="default",
        upstream_id="run_a",
        thread=thread,
        created_at=NOW,
        requested_at=NOW,
        received_at=NOW,
        raw="{}",
    )


@pytest.fixture
def make_edit(run: Run, alice: User) -> Callable[..., Edit]:
    def make_edit(**fields: object) -> Edit:
        return Edit.objects.create(run=run, actor=alice, source="api", patch=MetadataPatch({"a": "b"}), **fields)

    return make_edit


@pytest.mark.parametrize("first", [SENDING, UNKNOWN])
@pytest.mark.parametrize("second", [SENDING, UNKNOWN])
def test_one_edit_of_a_run_is_in_flight(
    make_edit: Callable[..., Edit], first: dict[str, object], second: dict[str, object]
) -> None:
    make_edit(**first)
    assert is_refused(lambda: make_edit(**second))
    make_edit()  # Other edits of the run wait.


def test_sending_edit_is_claimed(make_edit: Callable[..., Edit]) -> None:
    assert is_refused(lambda: make_edit(status="sending"))
    assert is_refused(lambda: make_edit(**SENDING | {"claimed_until": None}))


def test_unknown_edit_has_sent_at_and_before(make_edit: Callable[..., Edit]) -> None:
    for missing in ("before", "intended", "sent_at"):
        assert is_refused(partial(make_edit, **UNKNOWN | {missing: None}))


@pytest.mark.parametrize("status", ["applied", "differs", "conflict", "rejected", "failed", "skipped", "cancelled"])
def test_ended_edit_has_finished_at(make_edit: Callable[..., Edit], status: str) -> None:
    assert is_refused(lambda: make_edit(status=status))
    make_edit(status=status, finished_at=timezone.now())


def test_open_edit_has_no_finished_at(make_edit: Callable[..., Edit]) -> None:
    assert is_refused(lambda: make_edit(finished_at=NOW))


def test_unknown_status_is_refused(make_edit: Callable[..., Edit], run: Run) -> None:
    assert is_refused(lambda: make_edit(status="lost"))
    assert is_refused(lambda: Sync.objects.create(connection="default", status="lost"))


def test_run_is_unique_per_connection(run: Run) -> None:
    fields = {"thread": run.thread, "upstream_id": "run_a", "created_at": NOW, "requested_at": NOW, "received_at": NOW}
    assert is_refused(lambda: Run.objects.create(connection="default", **fields))
    Run.objects.create(connection="eu", **fields)


def test_response_follows_its_request(run: Run) -> None:
    assert is_refused(lambda: Run.objects.update(requested_at=NOW + dt.timedelta(seconds=1)))


def test_key_is_unique_per_run(run: Run) -> None:
    pair = {"run": run, "key": "team", "created_at": NOW}
    MetadataPair.objects.create(**pair, value="a")
    assert is_refused(lambda: MetadataPair.objects.create(**pair, value="b"))


def test_thread_is_unique_per_connection(run: Run) -> None:
    assert is_refused(lambda: Thread.objects.create(connection="default", upstream_id="thread_a"))


def test_one_sync_of_a_kind_is_open(run: Run) -> None:
    Sync.objects.create(connection="default", kind="full")
    assert is_refused(lambda: Sync.objects.create(connection="default", kind="full", status="paused"))
    Sync.objects.create(connection="default", kind="full", status="completed")
    Sync.objects.create(connection="default", kind="incremental")


def test_threads_done_is_at_most_threads_total(run: Run) -> None:
    assert is_refused(lambda: Sync.objects.create(connection="default", threads_done=1))


def test_held_connection_has_held_since(run: Run) -> None:
    assert is_refused(lambda: ConnectionState.objects.create(alias="default", hold="operator"))
