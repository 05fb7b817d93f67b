"""Many edits of one run at once: each is answered as soon as those before it have ended."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection

from runsadmin.models import Edit, Run
from tests.api.conftest import ApiOf
from tests.fake_upstream import FakeUpstream, Request, Response

pytestmark = pytest.mark.django_db(transaction=True)

E = Edit.Status
LATENCY = 0.1


@pytest.fixture
def slow(upstream: FakeUpstream) -> FakeUpstream:
    def respond(request: Request) -> Response | None:
        time.sleep(LATENCY)
        return None

    upstream.override(respond)
    return upstream


@pytest.fixture
def at_once() -> Iterator[Callable[..., list[Any]]]:
    """Calls it so many times at once, each with its number; returns the results and how long each took."""
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
    slow: FakeUpstream, run: Run, api: ApiOf, alice: User, at_once: Callable[..., list[Any]]
) -> None:
    base = dict(run.metadata)
    clients = [api(alice) for _ in range(12)]

    def patch(number: int) -> int:
        body = {"metadata": {"owner": f"owner {number}"}, "base": base}
        return int(clients[number].patch(f"runs/{run.upstream_id}/", body).status_code)

    results = at_once(12, patch)
    assert Counter(status for status, _ in results) == {200: 1, 409: 11}
    assert len(slow.writes) == 1
    assert max(seconds for _, seconds in results) < 12 * 2 * LATENCY + 1
    print("slowest", max(seconds for _, seconds in results))


def test_more_patches_than_pusher_threads(
    upstream: FakeUpstream, run: Run, api: ApiOf, alice: User, at_once: Callable[..., list[Any]]
) -> None:
    clients = [api(alice) for _ in range(40)]

    def patch(number: int) -> int:
        return int(
            clients[number].patch(f"runs/{run.upstream_id}/", {"metadata": {f"k{number % 8}": str(number)}}).status_code
        )

    results = at_once(40, patch)
    assert Counter(status for status, _ in results) == {200: 40}
    assert max(seconds for _, seconds in results) < 10
    assert len(upstream.writes) == 40
