"""The search language in the REST API: lists and plans find the same runs."""

from urllib.parse import parse_qs, quote, urlsplit

import pytest
from django.contrib.auth.models import User

from tests.api.bulk_edit import RED_BODY, plan
from tests.api.conftest import ApiOf, problem
from tests.conftest import MakeRun

pytestmark = pytest.mark.django_db(transaction=True)


def test_lists_and_plans_find_the_same_runs(run_ids: list[str], mirror_run: MakeRun, api: ApiOf, alice: User) -> None:
    mirror_run(id="run_f", status="failed", metadata={"team": "blue"})

    def found(query: str) -> set[str]:
        return {run["id"] for run in api(alice).get(f"runs/?{query}").json()["results"]}

    assert found("q=metadata.team:blue") == {*run_ids, "run_f"}
    assert found("q=metadata.team:blue+status:failed") == found("q=metadata.team:blue&status=failed") == {"run_f"}
    assert found("q=") == {*run_ids, "run_f"}
    assert found("q=created:%3E=2020-01-01T00:00:00%2B14:00+status:failed") == {"run_f"}
    assert plan(api(alice), q="metadata.team:blue status:failed")["selected"] == 1


@pytest.mark.parametrize(
    ("query", "position"),
    [
        ("status:failed color:red", 15),
        ("status:failed  what OR", 23),
        ("created:2026-13-01", 9),
        ("created:9999-12-31", 9),
        ("created:>=0001-01-01T00:00:00+14:00", 11),
        (" ".join(["metadata.a:b"] * 101), 1312),
    ],
)
def test_invalid_search_names_position(query: str, position: int, api: ApiOf, alice: User) -> None:
    client = api(alice)
    for response in (
        client.get(f"runs/?q={quote(query)}"),
        client.post("bulk-edits/", RED_BODY | {"q": query}),
    ):
        data = problem(response, 400, "invalid-search")
        assert (data["errors"][0]["field"], data["errors"][0]["position"]) == ("q", position)
        assert data["detail"].startswith(f"At character {position}: ")


@pytest.mark.parametrize("column", ["total_tokens", "duration"])
def test_lists_are_sorted_by_numbers(column: str, mirror_run: MakeRun, api: ApiOf, carol: User) -> None:
    for number, value in enumerate([5, None, 9, 5]):
        usage = None if value is None else {"prompt_tokens": 0, "completion_tokens": value, "total_tokens": value}
        ended = {"started_at": 1_700_000_000, "completed_at": value and 1_700_000_000 + value}
        mirror_run(id=f"run_{number}", usage=usage, metadata={"team": "blue"}, **ended)
    client = api(carol)

    def pages(query: str) -> list[list[str]]:
        page = client.get(f"runs/?page_size=2&{query}").json()
        found = [[run["id"] for run in page["results"]]]
        while page["next"]:
            page = client.get(page["next"]).json()
            found.append([run["id"] for run in page["results"]])
        return found

    for q in ("", "&q=metadata.team:blue"):
        assert pages(f"sort=-{column}{q}") == [["run_2", "run_3"], ["run_0", "run_1"]]
        assert pages(f"sort={column}{q}") == [["run_0", "run_3"], ["run_2", "run_1"]]
    cursor = parse_qs(urlsplit(client.get(f"runs/?page_size=1&sort=-{column}").json()["next"]).query)["cursor"][0]
    assert "`next`" in problem(client.get(f"runs/?cursor={cursor}"), 400, "invalid-request")["detail"]
    assert "sort" in problem(client.get("runs/?sort=model"), 400, "invalid-request")["detail"]


def test_dates_are_in_the_given_time_zone(mirror_run: MakeRun, api: ApiOf, alice: User) -> None:
    mirror_run(id="run_a", created_at=1772326800)  # 2026-03-01T01:00 in UTC, and the day before in New York.
    client = api(alice)

    def found(query: str) -> bool:
        return bool(client.get(f"runs/?q={quote(query)}&tz=America/New_York").json()["results"])

    assert found("created:2026-02-28")
    assert found("created:2026-02")
    assert not found("created:2026-03-01")
    assert found("created:2026-03-01T01:00Z")
    shown = plan(client, q="created:2026-02-28", tz="America/New_York")
    assert (shown["selected"], shown["q"], shown["tz"]) == (1, "created:2026-02-28", "America/New_York")
    assert plan(client, q="created:2026-03-01")["tz"] == "UTC"


@pytest.mark.parametrize("tz", ["+02:00", "UTC+2", "Mars/Olympus", "Europe", "../etc/passwd", "", "CEST"])
def test_unknown_time_zone_is_an_error(tz: str, api: ApiOf, alice: User) -> None:
    client = api(alice)
    for response in (client.get(f"runs/?tz={quote(tz)}"), client.post("bulk-edits/", RED_BODY | {"q": "a", "tz": tz})):
        errors = problem(response, 400, "invalid-request")["errors"]
        assert [error["field"] for error in errors] == ["tz"]
        assert not tz or "Europe/Berlin" in errors[0]["message"]
