"""Each account has its own rate limit in the REST API."""

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


def api_for(user: User) -> Api:
    return Api(tokens.create(user=user, expires_in=None))


def statuses(client: Api, count: int) -> list[int]:
    return [client.get("threads/").status_code for _ in range(count)]


@pytest.fixture
def set_limit(settings: Settings) -> Callable[[int], None]:
    def set_limit(requests: int) -> None:
        settings.RUNSADMIN_API_REQUESTS_PER_MINUTE = requests

    return set_limit


@pytest.fixture
def pass_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Stops the clock. Each call moves it forward by some seconds."""
    now = timezone.now()

    def pass_time(seconds: float) -> None:
        nonlocal now
        now += dt.timedelta(seconds=seconds)

    monkeypatch.setattr(clock, "now", lambda: now)
    return pass_time


def test_refusal_says_how_long_to_wait(set_limit: Any, pass_time: Any, alice: User) -> None:
    set_limit(7)
    client = api_for(alice)
    assert statuses(client, 7) == [200] * 7
    refused = client.get("threads/")
    assert "seconds" in problem(refused, 429, "too-many-requests")["detail"]
    assert refused["Retry-After"] == "9"
    pass_time(9)
    assert statuses(client, 2) == [200, 429]
    pass_time(3600)
    assert statuses(client, 8) == [200] * 7 + [429]


def test_tokens_of_an_account_share_a_limit(set_limit: Any, alice: User, bob: User) -> None:
    set_limit(3)
    assert statuses(api_for(alice), 3) == [200] * 3
    assert statuses(api_for(alice), 1) == [429]
    assert statuses(api_for(bob), 3) == [200] * 3


def test_refused_edit_is_not_recorded(set_limit: Any, alice: User, mirror_run: Any) -> None:
    mirror_run(id="run_a", metadata={})
    set_limit(1)
    client = api_for(alice)
    client.get("threads/")
    problem(client.patch("runs/run_a/", {"metadata": {"team": "red"}}), 429, "too-many-requests")
    assert client.get("edits/").status_code == 429
    set_limit(0)
    assert client.get("edits/").json()["results"] == []


def test_zero_is_no_limit(set_limit: Any, alice: User) -> None:
    set_limit(0)
    assert statuses(api_for(alice), 30) == [200] * 30
    assert not ApiRateState.objects.exists()


def test_most_requests_need_no_query(
    set_limit: Any, alice: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    set_limit(1200)
    api_rate.use_one(alice)
    with django_assert_num_queries(0):
        assert [api_rate.use_one(alice) for _ in range(19)] == [0] * 19
    assert ApiRateState.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_concurrent_requests_share_the_limit(set_limit: Any, pass_time: Any, alice: User) -> None:
    set_limit(300)

    def call(_: int) -> float:
        try:
            return api_rate.use_one(alice)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        assert sum(not seconds for seconds in pool.map(call, range(330))) == 300


@pytest.mark.django_db(transaction=True)
def test_processes_share_the_count(make_site: Callable[..., Site], set_limit: Any, alice: User) -> None:
    set_limit(10)
    site = make_site(RUNSADMIN_API_REQUESTS_PER_MINUTE="10")
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

    assert responses.count(200) in (10, 11)  # The limit permits another request every six seconds.
    assert 429 in responses


def test_probes_are_not_counted(set_limit: Any, client: Any) -> None:
    set_limit(1)
    assert [client.get("/livez").status_code for _ in range(5)] == [200] * 5
