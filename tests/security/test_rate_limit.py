"""Each account has its own rate limit in the REST API."""

import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings

from runsadmin.services import api_rate, tokens
from tests.api.conftest import Api, problem
from tests.conftest import CaptureLog, json_lines
from tests.security.conftest import Site

pytestmark = pytest.mark.django_db


def api_for(user: User) -> Api:
    return Api(tokens.create(user=user, expires_in=None))


def statuses(client: Api, count: int) -> list[int]:
    return [client.get("threads/").status_code for _ in range(count)]


@pytest.fixture(autouse=True)
def rate_file(settings: Settings, tmp_path: Path) -> Iterator[Path]:
    settings.RUNSADMIN_API_RATE_FILE = tmp_path / "api-rate.sqlite3"
    yield settings.RUNSADMIN_API_RATE_FILE
    while api_rate._files:
        api_rate._files.popitem()[1].close()


@pytest.fixture
def set_limit(settings: Settings) -> Callable[[int], None]:
    def set_limit(requests: int) -> None:
        settings.RUNSADMIN_API_REQUESTS_PER_MINUTE = requests

    return set_limit


@pytest.fixture
def pass_time() -> Iterator[Callable[[float], None]]:
    """Stops the clock. Returns a function that moves it by the given number of seconds."""
    with time_machine.travel(timezone.now(), tick=False) as traveller:
        yield traveller.shift


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


def test_zero_is_no_limit(set_limit: Any, alice: User, rate_file: Path) -> None:
    set_limit(0)
    assert statuses(api_for(alice), 30) == [200] * 30
    assert not rate_file.exists()


@pytest.mark.parametrize("exists", [False, True])
def test_only_the_owner_can_read_the_file(set_limit: Any, alice: User, rate_file: Path, exists: bool) -> None:
    if exists:
        rate_file.touch(0o644)
    set_limit(1)
    assert api_rate.use_one(alice) == 0
    assert {path.stat().st_mode & 0o777 for path in rate_file.parent.glob(f"{rate_file.name}*")} == {0o600}


@pytest.mark.parametrize("limit", [1, 7, 59, 60_000_001, 10**15])
def test_any_limit_is_kept(limit: int, set_limit: Any, pass_time: Any, alice: User) -> None:
    set_limit(limit)
    allowed = min(limit, 100)
    assert [api_rate.use_one(alice) for _ in range(allowed)] == [0] * allowed
    if limit == allowed:
        assert api_rate.use_one(alice) == pytest.approx(60 / limit)


def test_lower_limit_applies_at_once(set_limit: Any, pass_time: Any, alice: User) -> None:
    set_limit(600)
    assert [api_rate.use_one(alice) for _ in range(600)] == [0] * 600
    set_limit(6)
    assert api_rate.use_one(alice) == pytest.approx(10)


def test_clock_set_back_blocks_nobody(set_limit: Any, pass_time: Any, alice: User) -> None:
    set_limit(6)
    assert [api_rate.use_one(alice) for _ in range(6)] == [0] * 6
    pass_time(-3600)
    assert api_rate.use_one(alice) == pytest.approx(10)
    pass_time(10.1)
    assert api_rate.use_one(alice) == 0


def test_counting_needs_no_query(
    set_limit: Any, alice: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    set_limit(1200)
    with django_assert_num_queries(0):
        assert [api_rate.use_one(alice) for _ in range(20)] == [0] * 20


def test_concurrent_requests_share_the_limit(set_limit: Any, pass_time: Any, alice: User) -> None:
    set_limit(300)
    with ThreadPoolExecutor(4) as pool:
        assert sum(not seconds for seconds in pool.map(lambda _: api_rate.use_one(alice), range(330))) == 300


def test_unusable_file_counts_per_process(
    set_limit: Any, alice: User, rate_file: Path, settings: Settings, capture_log: CaptureLog
) -> None:
    set_limit(2)
    settings.RUNSADMIN_API_RATE_FILE = rate_file / "no" / "folder"
    log = capture_log("json")
    assert statuses(api_for(alice), 3) == [200, 200, 429]
    warnings = [line["event"] for line in json_lines(log.getvalue()) if line["level"] == "warning"]
    assert "This process counts its REST requests separately" in warnings[0]


def test_locked_file_delays_no_request(set_limit: Any, alice: User, rate_file: Path) -> None:
    set_limit(2)
    assert api_rate.use_one(alice) == 0
    other = sqlite3.connect(rate_file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert api_rate.use_one(alice) == 0
    other.close()
    assert api_rate.use_one(alice) == 0
    assert api_rate.use_one(alice) > 0


@pytest.mark.django_db(transaction=True)
def test_processes_share_the_count(
    make_site: Callable[..., Site], set_limit: Any, alice: User, rate_file: Path
) -> None:
    set_limit(10)
    site = make_site(RUNSADMIN_API_REQUESTS_PER_MINUTE="10", RUNSADMIN_API_RATE_FILE=str(rate_file))
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
