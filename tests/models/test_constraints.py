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


def refused(make: Callable[[], object]) -> bool:
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
def edit(run: Run, alice: User) -> Callable[..., Edit]:
    def edit(**fields: object) -> Edit:
        return Edit.objects.create(run=run, actor=alice, source="api", patch=MetadataPatch({"a": "b"}), **fields)

    return edit


@pytest.mark.parametrize("one", [SENDING, UNKNOWN])
@pytest.mark.parametrize("other", [SENDING, UNKNOWN])
def test_one_edit_of_a_run_is_in_flight(
    edit: Callable[..., Edit], one: dict[str, object], other: dict[str, object]
) -> None:
    edit(**one)
    assert refused(lambda: edit(**other))
    edit()  # Other edits of the run wait.


def test_sending_edit_is_claimed(edit: Callable[..., Edit]) -> None:
    assert refused(lambda: edit(status="sending"))
    assert refused(lambda: edit(**SENDING | {"claimed_until": None}))


def test_unknown_edit_has_sent_at_and_before(edit: Callable[..., Edit]) -> None:
    for missing in ("before", "intended", "sent_at"):
        assert refused(partial(edit, **UNKNOWN | {missing: None}))


@pytest.mark.parametrize("status", ["applied", "differs", "conflict", "rejected", "failed", "skipped", "cancelled"])
def test_ended_edit_has_a_time(edit: Callable[..., Edit], status: str) -> None:
    assert refused(lambda: edit(status=status))
    edit(status=status, finished_at=timezone.now())


def test_open_edit_has_no_end(edit: Callable[..., Edit]) -> None:
    assert refused(lambda: edit(finished_at=NOW))


def test_unknown_status_is_refused(edit: Callable[..., Edit], run: Run) -> None:
    assert refused(lambda: edit(status="lost"))
    assert refused(lambda: Sync.objects.create(connection="default", status="lost"))


def test_run_is_unique_per_connection(run: Run) -> None:
    again = {"thread": run.thread, "upstream_id": "run_a", "created_at": NOW, "requested_at": NOW, "received_at": NOW}
    assert refused(lambda: Run.objects.create(connection="default", **again))
    Run.objects.create(connection="eu", **again)


def test_response_follows_its_request(run: Run) -> None:
    assert refused(lambda: Run.objects.update(requested_at=NOW + dt.timedelta(seconds=1)))


def test_key_is_unique_per_run(run: Run) -> None:
    pair = {"run": run, "connection": "default", "key": "team", "created_at": NOW}
    MetadataPair.objects.create(**pair, value="a")
    assert refused(lambda: MetadataPair.objects.create(**pair, value="b"))


def test_thread_is_unique_per_connection(run: Run) -> None:
    assert refused(lambda: Thread.objects.create(connection="default", upstream_id="thread_a"))


def test_one_sync_of_a_kind_is_open(run: Run) -> None:
    Sync.objects.create(connection="default", kind="full")
    assert refused(lambda: Sync.objects.create(connection="default", kind="full", status="paused"))
    Sync.objects.create(connection="default", kind="full", status="completed")
    Sync.objects.create(connection="default", kind="incremental")


def test_sync_reads_no_more_than_all_threads(run: Run) -> None:
    assert refused(lambda: Sync.objects.create(connection="default", threads_done=1))


def test_held_connection_has_a_time(run: Run) -> None:
    assert refused(lambda: ConnectionState.objects.create(alias="default", hold="operator"))
