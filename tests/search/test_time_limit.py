"""Searches that take too long are stopped, at every entry point."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.http import HttpResponse
from django.test import Client

from runsadmin.errors import InvalidSearch
from runsadmin.models import MetadataPair, Run, Thread
from runsadmin.models.bulk_insert import insert_rows, reserve_ids
from runsadmin.services import bulk_edits, search_time_limit
from runsadmin.services.run_search import RunSearch, Sort
from runsadmin.services.search_time_limit import limited
from tests.api.conftest import Api, api, problem  # noqa: F401 - a fixture
from tests.search.cases import NOW

pytestmark = pytest.mark.django_db

NUMBERS = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers{}) SELECT count(*) FROM numbers"
ENDLESS = NUMBERS.format("")
HINT = r"more than 0\.2 seconds.*created:>-7d"
# This search matches no run of `many_runs`, and none of its clauses can use an index.
SLOW = " ".join(f"-metadata.k{number}:a" for number in range(98)) + " -metadata.team:blue"


def test_long_statement_is_stopped_with_a_hint() -> None:
    with pytest.raises(InvalidSearch, match=HINT), limited(0.2):
        connection.cursor().execute(ENDLESS)

    assert Run.objects.count() == 0  # The connection can be used as before.


def test_limit_covers_all_statements_together() -> None:
    began = time.monotonic()
    with pytest.raises(InvalidSearch, match=r"more than 0\.5 seconds"), limited(0.5), connection.cursor() as cursor:
        while time.monotonic() < began + 30:
            cursor.execute(NUMBERS.format(" WHERE n < 30000"))
    assert time.monotonic() - began < 2


def test_inner_limit_does_not_extend_the_outer_one() -> None:
    with pytest.raises(InvalidSearch, match=HINT), limited(0.2), limited(60):
        connection.cursor().execute(ENDLESS)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("transaction_around", [nullcontext, transaction.atomic])
def test_limit_ends_with_the_search(transaction_around: Callable[[], Any]) -> None:
    with transaction_around():
        with limited(0.01):
            pass

        with connection.cursor() as cursor:
            cursor.execute(NUMBERS.format(" WHERE n < 300000"))
            assert cursor.fetchone() == (300000,)


@pytest.fixture
def many_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many runs that SLOW takes longer than the limit."""
    monkeypatch.setattr(search_time_limit, "SECONDS", 0.02)
    thread = Thread.objects.create(connection="default", upstream_id="thread_a")
    ids = reserve_ids(Run, 10_000)
    insert_rows(
        Run,
        [
            {
                "id": id, "connection": "default", "upstream_id": f"run_{id}", "thread_id": thread.pk,
                "status": "completed", "created_at": NOW, "raw": "{}", "digest": "", "requested_at": NOW,
                "received_at": NOW,
            }
            for id in ids
        ],
    )  # fmt: skip
    insert_rows(MetadataPair, [{"run_id": id, "key": "team", "value": "blue", "created_at": NOW} for id in ids])


def test_slow_search_is_stopped_everywhere(
    many_runs: None,
    alice: User,
    api: Callable[..., Api],  # noqa: F811
) -> None:
    pages = Client()
    pages.force_login(alice)

    def page_is_stopped(path: str) -> bool:
        return "more than 0.02 seconds" in pages.get(f"/admin/runsadmin/run/{path}", {"q": SLOW}).text

    def selection_is_stopped() -> bool:
        body = {"action": "edit_metadata", "select_across": "1", "_selected_action": "0"}
        response = pages.post("/admin/runsadmin/run/", body, query_params={"q": SLOW}, follow=True)
        return "more than 0.02 seconds" in response.text

    def is_refused(response: HttpResponse) -> bool:
        return "more than 0.02 seconds" in problem(response, 400, "invalid-search")["detail"]

    body, query = {"q": SLOW, "set": {"a": "b"}, "reason": "r"}, SLOW.replace(" ", "+")
    stopped: dict[str, Callable[[], object]] = {
        "list": lambda: page_is_stopped(""),
        "list, sorted": lambda: page_is_stopped("?o=-5"),
        "count": lambda: page_is_stopped("count/"),
        "select all": selection_is_stopped,
        "REST": lambda: is_refused(api(alice).call("GET", f"runs/?q={query}")),
        "REST, sorted": lambda: is_refused(api(alice).call("GET", f"runs/?sort=-total_tokens&q={query}")),
        "REST, bulk edit": lambda: is_refused(api(alice).post("bulk-edits/", body)),
    }
    for name, is_stopped in stopped.items():
        began = time.monotonic()
        assert is_stopped(), name
        assert time.monotonic() - began < 10, name

    with pytest.raises(InvalidSearch, match=r"more than 0\.02 seconds"):
        RunSearch.parse(SLOW).read_page(Run.objects.all(), 10, sort=Sort.OLDEST)


def test_caller_may_lift_the_limit(many_runs: None) -> None:
    assert len(bulk_edits.by_search("-metadata.x:*", seconds=float("inf")).keys) == 10_000
