"""The search language in the REST API: lists and plans find the same runs."""

from urllib.parse import quote

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
