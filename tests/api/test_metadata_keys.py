"""Observed metadata keys and their values, with the number of runs that have them."""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.auth.models import User

from runsadmin.models import MetadataPair, Run
from runsadmin.services import distinct_texts
from tests.api.conftest import ApiOf, problem
from tests.conftest import MakeRun

pytestmark = pytest.mark.django_db

ODD_KEYS = ["", "a/b", "a/values/b", "a.b", "..", "a b", 'quo"ted', "a:b", "%2F", "?x=1#y", "😀", "line\nbreak", "é"]


@pytest.fixture
def mirror_metadata(mirror_run: MakeRun) -> Callable[[list[dict[str, str]]], None]:
    """Returns a function that mirrors a run for each dict of metadata."""

    def mirror_metadata(maps: list[dict[str, str]]) -> None:
        for number, metadata in enumerate(maps):
            mirror_run(id=f"run_{number}", metadata=metadata)

    return mirror_metadata


def rows(response: Any, name: str) -> dict[str, int]:
    assert response.status_code == 200, response.json()
    return {row[name]: row["count"] for row in response.json()["results"]}


def test_keys_and_values_are_counted(mirror_metadata: Any, api: ApiOf, carol: User) -> None:
    mirror_metadata([{"team": "ads", "env": "prod"}, {"team": "ads"}, {"team": "search", "tea": ""}])
    client = api(carol)
    assert rows(client.get("metadata-keys/"), "key") == {"env": 1, "tea": 1, "team": 3}
    assert rows(client.get("metadata-keys/?prefix=tea"), "key") == {"tea": 1, "team": 3}
    listed = client.get("metadata-keys/?prefix=team").json()["results"][0]
    assert listed == {
        "key": "team",
        "count": 3,
        "count_is_capped": False,
        "values_url": "http://testserver/api/v1/metadata-keys/team/values/",
    }
    assert rows(client.get(listed["values_url"]), "value") == {"ads": 2, "search": 1}
    assert rows(client.get("metadata-keys/team/values/?prefix=s"), "value") == {"search": 1}
    assert rows(client.get("metadata-keys/tea/values/"), "value") == {"": 1}
    assert rows(client.get("metadata-keys/nosuch/values/"), "value") == {}


def test_pages_link_to_each_other(mirror_metadata: Any, api: ApiOf, carol: User) -> None:
    mirror_metadata([{"n": f"v{number}", "m": "x"} for number in range(5)] + [{"n": "w"}])
    client = api(carol)
    page = client.get("metadata-keys/n/values/?prefix=v&page_size=2").json()
    seen = [page["results"]]
    assert page["previous"] is None
    while page["next"]:
        page = client.get(page["next"]).json()
        seen.append(page["results"])
    assert [[row["value"] for row in results] for results in seen] == [["v0", "v1"], ["v2", "v3"], ["v4"]]
    assert client.get(page["previous"]).json()["results"] == seen[1]
    problem(client.get("metadata-keys/?cursor=x"), 400, "invalid-request")


def test_counts_are_capped(mirror_metadata: Any, api: ApiOf, carol: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distinct_texts, "MAX_COUNT", 2)
    mirror_metadata([{"all": "x", "two": "x"}, {"all": "x", "two": "x"}, {"all": "y"}])
    results = api(carol).get("metadata-keys/").json()["results"]
    assert [(row["key"], row["count"], row["count_is_capped"]) for row in results] == [
        ("all", 2, True),
        ("two", 2, False),
    ]


def test_keys_may_have_any_character(mirror_metadata: Any, api: ApiOf, carol: User) -> None:
    mirror_metadata([{}])
    run = Run.objects.get()
    for key in ODD_KEYS:
        MetadataPair.objects.create(run=run, key=key, value=f"of {key}", created_at=run.created_at)
    client = api(carol)
    listed = client.get("metadata-keys/").json()["results"]
    assert [row["key"] for row in listed] == sorted(ODD_KEYS)
    for row in listed:
        assert row["values_url"].endswith(f"/metadata-keys/{quote(row['key'], safe='')}/values/")
        assert rows(client.get(row["values_url"]), "value") == {f"of {row['key']}": 1}
        assert row["key"] in rows(client.get(f"metadata-keys/?prefix={quote(row['key'])}"), "key")
    assert rows(client.get("metadata-keys/%00/values/"), "value") == {}
    problem(client.get("metadata-keys/?prefix=%00"), 400, "invalid-request")


def test_keys_need_the_permission_to_view_runs(api: ApiOf, make_user: Callable[..., User]) -> None:
    for path in ("metadata-keys/", "metadata-keys/team/values/"):
        assert "view_run" in problem(api(make_user()).get(path), 403, "not-allowed")["detail"]
