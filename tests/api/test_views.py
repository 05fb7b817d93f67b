"""Saved views in the REST API."""

from typing import Any

import pytest
from django.contrib.auth.models import User

from runsadmin.models import SavedView
from runsadmin.services import views
from tests.api.conftest import Api, ApiOf, problem
from tests.conftest import MakeRun

pytestmark = pytest.mark.django_db

BODY = {"name": "Failed", "q": "status:failed", "sort": "total_tokens", "tz": "America/New_York"}


def found(client: Api, query: str) -> list[str]:
    return [run["id"] for run in client.get(f"runs/?{query}").json()["results"]]


def test_view_is_saved_changed_and_deleted(api: ApiOf, alice: User) -> None:
    client = api(alice)
    created = client.post("views/", BODY | {"is_default": True, "columns": "id,error"})
    data = created.json()
    assert (created.status_code, created["Location"], data["slug"]) == (201, data["url"], "failed")
    assert {name: data[name] for name in BODY} == BODY
    assert (data["owner"], data["is_shared"], data["is_default"]) == ("alice", False, True)
    assert client.get(data["url"]).json() == client.get("views/").json()["results"][0] == data

    changed = client.patch("views/failed/", {"q": "status:expired", "is_shared": True, "is_default": False}).json()
    assert changed | {"updated_at": data["updated_at"]} == data | {
        "q": "status:expired", "is_shared": True, "is_default": False
    }  # fmt: skip

    assert client.delete("views/failed/").status_code == 204
    problem(client.get("views/failed/"), 404, "not-found")


def test_view_lists_its_runs(mirror_run: MakeRun, api: ApiOf, alice: User, bob: User) -> None:
    for number, status in enumerate(["failed", "failed", "completed"]):
        usage = {"prompt_tokens": 0, "completion_tokens": number, "total_tokens": number}
        mirror_run(id=f"run_{number}", status=status, usage=usage, created_at=1772326800 + number)  # 2026-03-01 in UTC.
    shared = {"q": "created:2026-02-28 status:failed", "is_shared": True}
    data = api(alice).post("views/", BODY | shared).json()
    client = api(bob)

    assert [run["id"] for run in client.get(data["runs_url"]).json()["results"]] == ["run_0", "run_1"]
    assert found(client, "view=failed&sort=-total_tokens") == ["run_1", "run_0"]
    assert found(client, "view=failed&tz=UTC") == []
    assert found(client, "view=failed&q=") == ["run_0", "run_1", "run_2"]
    assert found(client, "view=failed&model=none") == []
    page = client.get("runs/?view=failed&page_size=1").json()
    assert client.get(page["next"]).json()["results"][0]["id"] == "run_1"


def test_unknown_view_is_a_400(api: ApiOf, alice: User, bob: User) -> None:
    api(alice).post("views/", BODY)
    errors = problem(api(bob).get("runs/?view=failed"), 400, "invalid-request")["errors"]
    assert [error["field"] for error in errors] == ["view"]
    problem(api(bob).get("views/failed/"), 404, "not-found")


def test_view_that_no_longer_parses_is_shown(api: ApiOf, alice: User) -> None:
    client = api(alice)
    client.post("views/", BODY)
    SavedView.objects.update(query="removed:x")
    assert "removed" in problem(client.get("runs/?view=failed"), 400, "invalid-search")["detail"]
    assert client.get("views/failed/").json()["q"] == "removed:x"
    assert client.patch("views/failed/", {"name": "Renamed"}).json()["q"] == "removed:x"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"q": 7}, "q"),
        ({"columns": "stats"}, "columns"),
        ({"sort": "model"}, "sort"),
        ({"tz": "+02:00"}, "tz"),
        ({"name": " "}, "name"),
        ({"slug": "No"}, "slug"),
        ({"color": "red"}, "color"),
        ({"is_shared": "yes"}, "is_shared"),
    ],
)
def test_invalid_field_is_named(changes: dict[str, Any], field: str, api: ApiOf, alice: User) -> None:
    data = problem(api(alice).post("views/", BODY | changes), 400, "invalid-request")
    assert [error["field"] for error in data["errors"]] == [field]
    assert not SavedView.objects.exists()


def test_invalid_search_is_refused(api: ApiOf, alice: User) -> None:
    data = problem(api(alice).post("views/", BODY | {"q": "color:red"}), 400, "invalid-search")
    assert data["errors"][0]["position"] == 1
    assert not SavedView.objects.exists()


def test_view_of_someone_else_is_read_only(api: ApiOf, alice: User, bob: User, carol: User) -> None:
    api(alice).post("views/", BODY | {"is_shared": True})
    problem(api(bob).patch("views/failed/", {"name": "Mine"}), 403, "not-allowed")
    problem(api(bob).delete("views/failed/"), 403, "not-allowed")
    assert api(carol).patch("views/failed/", {"is_default": True}).json()["is_default"] is True
    problem(api(carol).post("views/", BODY | {"is_shared": True}), 403, "not-allowed")
    assert api(carol).post("views/", BODY).json()["slug"] == "failed-2"


def test_view_deleted_meanwhile_is_a_404(api: ApiOf, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    client = api(alice)
    client.post("views/", BODY)
    resolve = views.resolve

    def resolve_and_delete(slug: str, actor: User) -> SavedView:
        view = resolve(slug, actor)
        SavedView.objects.all().delete()
        return view

    monkeypatch.setattr(views, "resolve", resolve_and_delete)
    found = problem(client.patch("views/failed/", {"q": ""}), 404, "not-found")
    assert found["detail"] == "The view 'failed' was deleted in the meantime."
