"""Many edits of one run at once: each gets its response as soon as the earlier ones have ended."""

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
type CallAtOnce = Callable[..., list[Any]]


@pytest.fixture
def slow_upstream(upstream: FakeUpstream) -> FakeUpstream:
    def respond(request: Request) -> Response | None:
        time.sleep(LATENCY)
        return None

    upstream.override(respond)
    return upstream


@pytest.fixture
def call_at_once() -> Iterator[CallAtOnce]:
    """Makes `count` calls at once, numbered from 0. Returns each result with the seconds that it took."""
    pools: list[ThreadPoolExecutor] = []

    def call_at_once(count: int, call: Callable[[int], Any]) -> list[Any]:
        def timed(number: int) -> tuple[Any, float]:
            began = time.monotonic()
            try:
                return call(number), time.monotonic() - began
            finally:
                connection.close()

        pools.append(ThreadPoolExecutor(count))
        return list(pools[-1].map(timed, range(count)))

    yield call_at_once
    for pool in pools:
        pool.shutdown()


def test_one_of_twelve_patches_with_a_base_wins(
    slow_upstream: FakeUpstream, run: Run, api: ApiOf, alice: User, call_at_once: CallAtOnce, settings: Settings
) -> None:
    settings.RUNSADMIN_PUSH_WAIT = 30
    base = dict(run.metadata)
    clients = [api(alice) for _ in range(12)]

    def patch(number: int) -> int:
        body = {"metadata": {"owner": f"owner {number}"}, "base": base}
        return int(clients[number].patch(f"runs/{run.upstream_id}/", body).status_code)

    results = call_at_once(12, patch)
    assert Counter(status for status, _ in results) == {200: 1, 409: 11}
    assert len(slow_upstream.writes) == 1
    # Usually little more than the time of thirteen requests; the limit allows for a busy machine.
    assert max(seconds for _, seconds in results) < 10


def test_more_patches_than_threads_succeed(
    upstream: FakeUpstream, run: Run, api: ApiOf, alice: User, call_at_once: CallAtOnce, settings: Settings
) -> None:
    settings.RUNSADMIN_PUSH_WAIT = 60
    clients = [api(alice) for _ in range(40)]

    def patch(number: int) -> int:
        body = {"metadata": {f"k{number % 8}": str(number)}}
        return int(clients[number].patch(f"runs/{run.upstream_id}/", body).status_code)

    results = call_at_once(40, patch)
    assert Counter(status for status, _ in results) == {200: 40}
    assert len(upstream.writes) == 40


def test_waiting_edits_block_no_other_run(
    upstream: FakeUpstream, mirror_runs: Callable[..., list[Run]], alice: User, call_at_once: CallAtOnce
) -> None:
    """Twenty edits wait for a run that another process has claimed, and an edit of another run is not delayed."""
    claimed, free = mirror_runs(make_run(thread_id="thread_a"), make_run(thread_id="thread_b"))
    assert claims.claim(record(claimed, alice))
    waiting = [record(claimed, alice) for _ in range(20)]
    other = record(free, alice)

    def push_one(number: int) -> Edit:
        if number == 20:
            time.sleep(0.3)
            return edits.push_within(other, 10)
        return edits.push_within(waiting[number], 3)

    results = call_at_once(21, push_one)
    assert Counter(edit.status for edit, _ in results) == {EditStatus.PENDING: 20, EditStatus.APPLIED: 1}
    assert results[20][1] < 2.5


def test_edit_that_ends_elsewhere_is_noticed(
    upstream: FakeUpstream, run: Run, alice: User, call_at_once: CallAtOnce
) -> None:
    """The waiting edit continues at once, although the other process sends no signal."""
    claim = claims.claim(record(run, alice, {"a": "1"}))
    assert claim is not None
    second = record(run, alice, {"b": "2"})

    def push_or_end(number: int) -> Edit | None:
        if number == 0:
            return edits.push_within(second, 10)
        time.sleep(0.5)
        storing.store([Outcome(claim, EditStatus.REJECTED, "no")])
        return None

    (edit, seconds), _ = call_at_once(2, push_or_end)
    assert edit.status == EditStatus.APPLIED
    assert seconds < 4
