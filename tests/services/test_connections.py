"""The state of a connection, which all processes share: its rate, and whether it is held."""

import datetime as dt
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.utils import timezone

from runsadmin import conf
from runsadmin.errors import NoSlot, NotAllowed, UnknownConnection
from runsadmin.models import ConnectionState
from runsadmin.services import connections, probes
from runsadmin.services.connections import FreeAt, take
from runsadmin.services.permissions import Action
from tests.conftest import EDITOR, Connect

pytestmark = pytest.mark.django_db(transaction=True)

NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


def after(seconds: float) -> dt.datetime:
    return NOW + dt.timedelta(seconds=seconds)


@pytest.fixture
def limited() -> conf.Connection:
    return replace(conf.connection("default"), requests_per_minute=600)


def test_slots_are_spaced_by_the_rate(limited: conf.Connection) -> None:
    free_at = FreeAt(None, None)
    for number in range(5):
        at, free_at = take(free_at, limited, 1, interactive=False, now=NOW)
        assert at == after(number / 9)  # Background work may use nine of ten requests per second.


def test_background_work_delays_no_interactive_edit(limited: conf.Connection) -> None:
    free_at = FreeAt(None, after(60))
    at, free_at = take(free_at, limited, 2, interactive=True, now=NOW)
    assert at == NOW
    at, _ = take(free_at, limited, 2, interactive=True, now=NOW)
    assert at == after(2)


def test_interactive_edits_use_background_slots(limited: conf.Connection) -> None:
    at, free_at = take(FreeAt(after(10), None), limited, 1, interactive=True, now=NOW)
    assert at == NOW
    assert free_at.interactive == after(10)


def test_slots_are_paced_in_real_time(connect: Connect) -> None:
    connect(REQUESTS_PER_MINUTE=3000)
    began = time.monotonic()
    for _ in range(19):
        connections.wait_for_slots(conf.connection("default"), 1)
    assert time.monotonic() - began >= 18 / 45


def test_distant_slot_is_not_taken(connect: Connect) -> None:
    connect(REQUESTS_PER_MINUTE=60)
    connections.wait_for_slots(conf.connection("default"), 6)
    with pytest.raises(NoSlot) as caught:
        connections.wait_for_slots(conf.connection("default"), 1)
    assert caught.value.retry_after == pytest.approx(6 / 0.9, abs=1)
    state = connections.state("default")
    assert state.background_free_at is not None
    assert state.background_free_at < timezone.now() + dt.timedelta(seconds=7)


def test_slot_is_never_in_the_past(connect: Connect) -> None:
    connect(REQUESTS_PER_MINUTE=600)
    connections.state("default")
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            ConnectionState.objects.select_for_update().get()
            waiting = pool.submit(_wait_for_slot)
            time.sleep(0.5)
            released = timezone.now()
        waiting.result()
    assert (connections.state("default").background_free_at or NOW) > released


def test_late_slot_is_not_used(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(REQUESTS_PER_MINUTE=600)
    monkeypatch.setattr(connections, "MAX_SLOT_LATENESS", 0.2)
    not_before = connections.not_before

    def stall_once(alias: str) -> dt.datetime | None:
        monkeypatch.setattr(connections, "not_before", not_before)
        time.sleep(2 * connections.MAX_SLOT_LATENESS)
        return not_before(alias)

    monkeypatch.setattr(connections, "not_before", stall_once)
    end_of_stall = timezone.now() + dt.timedelta(seconds=2 * connections.MAX_SLOT_LATENESS)
    connections.wait_for_slots(conf.connection("default"), 1)
    assert (connections.state("default").background_free_at or NOW) > end_of_stall


def _wait_for_slot() -> None:
    try:
        connections.wait_for_slots(conf.connection("default"), 1)
    finally:
        connection.close()


def test_operator_holds_and_releases(make_user: Callable[..., User], alice: User) -> None:
    operator = make_user(*EDITOR, Action.HOLD, username="olga")
    with pytest.raises(NotAllowed, match="hold or release"):
        connections.set_hold("default", on=True, actor=alice)
    connections.set_hold("default", on=True, actor=operator)
    assert connections.is_held("default")
    assert connections.available_aliases() == []
    ConnectionState.objects.update(next_probe_at=timezone.now())
    probes.probe_held()
    assert connections.is_held("default")  # Only an operator releases a connection that an operator holds.
    connections.set_hold("default", on=False, actor=operator)
    assert not connections.is_held("default")
    with pytest.raises(UnknownConnection):
        connections.set_hold("nowhere", on=True, actor=operator)
