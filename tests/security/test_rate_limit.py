"""No account can use up the REST API for the others."""

import datetime as dt
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings

from runsadmin.models import ApiRateState
from runsadmin.services import api_rate, clock, tokens
from tests.api.conftest import Api, problem
from tests.security.conftest import Site

pytestmark = pytest.mark.django_db


def api_of(user: User) -> Api:
    return Api(tokens.create(user=user, expires_in=None))


def statuses(client: Api, count: int) -> list[int]:
    return [client.get("threads/").status_code for _ in range(count)]


@pytest.fixture
def limit(settings: Settings) -> Callable[[int], None]:
    def limit(requests: int) -> None:
        settings.RUNSADMIN_API_REQUESTS_PER_MINUTE = requests

    return limit


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Stops the clock, and moves it forward by some seconds."""
    now = timezone.now()

    def wait(seconds: float) -> None:
        nonlocal now
        now += dt.timedelta(seconds=seconds)

    monkeypatch.setattr(clock, "now", lambda: now)
    return wait


def test_rate_limit_gives_the_wait(limit: Any, wait: Any, alice: User) -> None:
    limit(7)
    client = api_of(alice)
    assert statuses(client, 7) == [200] * 7
    refused = client.get("threads/")
    assert "seconds" in problem(refused, 429, "too-many-requests")["detail"]
    assert refused["Retry-After"] == "9"
    wait(9)
    assert statuses(client, 2) == [200, 429]
    wait(3600)
    assert statuses(client, 8) == [200] * 7 + [429]


def test_all_tokens_of_an_account_share_a_rate(limit: Any, alice: User, bob: User) -> None:
    limit(3)
    assert statuses(api_of(alice), 3) == [200] * 3
    assert statuses(api_of(alice), 1) == [429]
    assert statuses(api_of(bob), 3) == [200] * 3


def test_refused_edit_is_not_recorded(limit: Any, alice: User, mirror_run: Any) -> None:
    mirror_run(id="run_a", metadata={})
    limit(1)
    client = api_of(alice)
    client.get("threads/")
    problem(client.patch("runs/run_a/", {"metadata": {"team": "red"}}), 429, "too-many-requests")
    assert client.get("edits/").status_code == 429
    limit(0)
    assert client.get("edits/").json()["results"] == []


def test_zero_is_no_limit(limit: Any, alice: User) -> None:
    limit(0)
    assert statuses(api_of(alice), 30) == [200] * 30
    assert not ApiRateState.objects.exists()


def test_most_requests_need_no_query(
    limit: Any, alice: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    limit(1200)
    api_rate.use_one(alice)
    with django_assert_num_queries(0):
        assert [api_rate.use_one(alice) for _ in range(19)] == [0] * 19
    assert ApiRateState.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_concurrent_requests_share_the_quota(limit: Any, wait: Any, alice: User) -> None:
    limit(300)

    def call(_: int) -> float:
        try:
            return api_rate.use_one(alice)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        assert sum(not seconds for seconds in pool.map(call, range(330))) == 300


@pytest.mark.django_db(transaction=True)
def test_processes_share_the_count(site_of: Callable[..., Site], limit: Any, alice: User) -> None:
    limit(10)
    site = site_of(RUNSADMIN_API_REQUESTS_PER_MINUTE="10")
    site.start_web()
    token = tokens.create(user=alice, expires_in=None)
    headers = {"Authorization": f"Token {token}"}

    responses = [
        status
        for _ in range(6)
        for status in (
            Api(token).get("threads/").status_code,
            site.browser().get("/api/v1/threads/", headers=headers).status_code,
        )
    ]

    assert responses.count(200) in (10, 11)  # One request is added every six seconds.
    assert 429 in responses


def test_probes_are_not_counted(limit: Any, client: Any) -> None:
    limit(1)
    assert [client.get("/livez").status_code for _ in range(5)] == [200] * 5
