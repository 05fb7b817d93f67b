"""After the database's clock is set back, nothing waits until it has caught up."""

import datetime as dt
import time
import uuid

import pytest
from django.contrib.auth.models import User
from django.db.models import F
from pytest_django import Settings

from runsadmin import conf
from runsadmin.metadata import Metadata
from runsadmin.models import ConnectionState, Edit, EditStatus, Sync
from runsadmin.services import clock, connections, edits, syncs, times_ahead
from runsadmin.services.edits import claims
from tests.conftest import Connect, MakeRun
from tests.sandbox_client import Sandbox
from tests.services.single_edit import process_due, record

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = dt.timedelta(hours=1)
TIMES = ("not_before", "next_probe_at", "interactive_free_at", "background_free_at")


def set_clock_back() -> None:
    """Moves stored times an hour ahead instead, since tests cannot set the clock of PostgreSQL."""
    times = ("next_attempt_at", "claimed_until", "sent_at")
    Edit.objects.update(**{name: F(name) + HOUR for name in times})
    Sync.objects.update(claimed_until=F("claimed_until") + HOUR)
    ConnectionState.objects.update(**{name: F(name) + HOUR for name in TIMES})


def test_edits_do_not_wait(sandbox: Sandbox, mirror_run: MakeRun, alice: User, connect: Connect) -> None:
    connect(REQUESTS_PER_MINUTE=6000)
    unknown, claimed, pending = (record(mirror_run(metadata={"team": "blue"}), alice) for _ in range(3))
    sandbox.fault("lose", method="POST")
    assert edits.push(unknown).status == EditStatus.UNKNOWN
    assert claims.claim(claimed)  # By a process that then dies.
    connections.take_slots(conf.connection("default"), 1, interactive=True)
    set_clock_back()
    assert process_due() == 0

    assert times_ahead.correct() >= 4
    assert times_ahead.correct() == 0
    process_due()
    for edit, status in ((unknown, EditStatus.APPLIED), (claimed, EditStatus.SENDING), (pending, EditStatus.APPLIED)):
        edit.refresh_from_db()
        assert edit.status == status
    assert claimed.claimed_until is not None
    remaining = claimed.claimed_until - clock.now()
    assert dt.timedelta() < remaining <= dt.timedelta(minutes=2)
    Edit.objects.filter(pk=claimed.pk).update(claimed_until=F("claimed_until") - remaining)
    edits.release_expired()
    time.sleep(claims.SOON.total_seconds())
    process_due()
    assert not Edit.objects.exclude(status=EditStatus.APPLIED).exists()


@pytest.mark.parametrize("is_claimed", [False, True])
def test_write_that_did_not_happen_is_pending_again(
    is_claimed: bool, sandbox: Sandbox, mirror_run: MakeRun, alice: User, settings: Settings
) -> None:
    settings.RUNSADMIN_SETTLING_TIME = 0
    edit = record(mirror_run(metadata={"team": "blue"}), alice)
    sandbox.fault("cut_before", method="POST")
    assert edits.push(edit).status == EditStatus.UNKNOWN
    set_clock_back()
    if is_claimed:  # It is still being sent, by a process that then dies.
        until = clock.now() + HOUR
        Edit.objects.update(status=EditStatus.SENDING, claim_token=uuid.uuid4(), claimed_until=until)
    times_ahead.correct()
    Edit.objects.exclude(claim_token=None).update(claimed_until=clock.now())
    edits.release_expired()
    Edit.objects.update(next_attempt_at=clock.now())
    Edit.objects.update(sent_at=F("sent_at") - conf.connection("default").timeout)  # Time passes.
    process_due()
    edit.refresh_from_db()
    assert edit.attempts == 1
    assert edit.status == EditStatus.PENDING


def test_sync_and_probe_do_not_wait(sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> None:
    mirror_run()
    sync = syncs.start(connection="default", kind=Sync.Kind.FULL, actor=alice)
    assert syncs.claim_waiting() == [sync.pk]
    connections.hold("default", ConnectionState.Hold.UNREACHABLE, "")
    set_clock_back()
    times_ahead.correct()
    sync.refresh_from_db()
    assert sync.claimed_until is not None
    assert sync.claimed_until <= clock.now() + dt.timedelta(minutes=2)
    assert connections.claim_probe(connections.state("default"))


def test_usual_times_stay(sandbox: Sandbox, mirror_run: MakeRun, alice: User, connect: Connect) -> None:
    connect(REQUESTS_PER_MINUTE=1)
    unknown, claimed, pending = (record(mirror_run(), alice) for _ in range(3))
    claims.claim(claimed)
    now = clock.now()
    Edit.objects.filter(pk=pending.pk).update(next_attempt_at=now + dt.timedelta(seconds=claims.LAST_BACKOFF))
    Edit.objects.filter(pk=unknown.pk).update(
        status=EditStatus.UNKNOWN, before=Metadata(), intended=Metadata(), sent_at=now, deaths=claims.MAX_DEATHS,
        next_attempt_at=now + claims.LAST_DEADLY_PAUSE,
    )  # fmt: skip
    connections.hold("default", ConnectionState.Hold.WRITING, "")
    ConnectionState.objects.update(
        not_before=now + times_ahead.LONGEST_PAUSE, interactive_free_at=now + dt.timedelta(minutes=40)
    )
    assert times_ahead.correct() == 0
