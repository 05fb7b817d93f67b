"""Many edits of one run at once: each gets its response as soon as those before it have ended."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from pytest_django import Settings

from runsadmin.models import Edit, EditStatus, Run
from runsadmin.services import edits
from runsadmin.services.edits import claims, storing
from runsadmin.services.edits.outcomes import Outcome
from tests.api.conftest import ApiOf
from tests.fake_upstream import FakeUpstream, Request, Response
from tests.quirks.conftest import record
from tests.sandbox_client import make_run

pytestmark = pytest.mark.django_db(transaction=True)

LATENCY = 0.1
type AtOnce = Callable[..., list[Any]]


@pytest.fixture
def slow(upstream: FakeUpstream) -> FakeUpstream:
    def respond(request: Request) -> Response | None:
        time.sleep(LATENCY)
        return None

    upstream.override(respond)
    return upstream


@pytest.fixture
def at_once() -> Iterator[AtOnce]:
    """Returns a function that makes `count` calls at once, numbered from 0. It returns each result with its seconds."""
    pools: list[ThreadPoolExecutor] = []

    def at_once(count: int, call: Callable[[int], Any]) -> list[Any]:
        def timed(number: int) -> tuple[Any, float]:
            began = time.monotonic()
            try:
                return call(number), time.monotonic() - began
            finally:
                connection.close()

        pools.append(ThreadPoolExecutor(count))
        return list(pools[-1].map(timed, range(count)))

    yield at_once
    for pool in pools:
        pool.shutdown()


def test_twelve_patches_with_one_base(
    slow: FakeUpstream, run: Run, api: ApiOf, alice: User, at_once: AtOnce, settings: Settings
) -> None:
    settings.RUNSADMIN_PUSH_WAIT = 30
    base = dict(run.metadata)
    clients = [api(alice) for _ in range(12)]

    def patch(number: int) -> int:
        body = {"metadata": {"owner": f"owner {number}"}, "base": base}
        return int(clients[number].patch(f"runs/{run.upstream_id}/", body).status_code)

    results = at_once(12, patch)
    assert Counter(status for status, _ in results) == {200: 1, 409: 11}
    assert len(slow.writes) == 1
    # Without load it is little more than the time of thirteen calls; the machine may have other work.
    assert max(seconds for _, seconds in results) < 10


def test_more_patches_than_pusher_threads(
    upstream: FakeUpstream, run: Run, api: ApiOf, alice: User, at_once: AtOnce, settings: Settings
) -> None:
    settings.RUNSADMIN_PUSH_WAIT = 60
    clients = [api(alice) for _ in range(40)]

    def patch(number: int) -> int:
        body = {"metadata": {f"k{number % 8}": str(number)}}
        return int(clients[number].patch(f"runs/{run.upstream_id}/", body).status_code)

    results = at_once(40, patch)
    assert Counter(status for status, _ in results) == {200: 40}
    assert len(upstream.writes) == 40


def test_waiters_hold_no_pusher_thread(
    upstream: FakeUpstream, mirror: Callable[..., list[Run]], alice: User, at_once: AtOnce
) -> None:
    """Twenty wait for a run whose first edit another process has; an edit of another run goes through."""
    busy, free = mirror(make_run(thread_id="thread_a"), make_run(thread_id="thread_b"))
    assert claims.claim(record(busy, alice))
    waiting = [record(busy, alice) for _ in range(20)]
    other = record(free, alice)

    def push_one(number: int) -> Edit:
        if number == 20:
            time.sleep(0.3)
            return edits.push_within(other, 10)
        return edits.push_within(waiting[number], 3)

    results = at_once(21, push_one)
    assert Counter(edit.status for edit, _ in results) == {EditStatus.PENDING: 20, EditStatus.APPLIED: 1}
    assert results[20][1] < 2.5


def test_other_process_ends(upstream: FakeUpstream, run: Run, alice: User, at_once: AtOnce) -> None:
    """It is noticed at once, although nothing in this process reports it."""
    claim = claims.claim(record(run, alice, {"a": "1"}))
    assert claim is not None
    second = record(run, alice, {"b": "2"})

    def act(number: int) -> Edit | None:
        if number == 0:
            return edits.push_within(second, 10)
        time.sleep(0.5)
        storing.store([Outcome(claim, EditStatus.REJECTED, "no")])
        return None

    (edit, seconds), _ = at_once(2, act)
    assert edit.status == EditStatus.APPLIED
    assert seconds < 4
