"""Threads and syncs in the REST API."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User

from runsadmin.models import Run, Sync, SyncError, Thread
from runsadmin.services import syncs
from tests.api.conftest import Api, ApiOf, problem
from tests.sandbox_client import Sandbox

pytestmark = pytest.mark.django_db


def tracked(client: Api, query: str = "") -> list[str]:
    return [thread["thread_id"] for thread in client.get(f"threads/?{query}").json()["results"]]


def test_thread_is_tracked_once(api: ApiOf, alice: User) -> None:
    client = api(alice)
    first = client.post("threads/", {"thread_id": "thread_a"})
    again = client.post("threads/", {"thread_id": "thread_a"})

    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == {
        "connection": "default",
        "results": [{"thread_id": "thread_a", "outcome": "added", "url": "http://testserver/api/v1/threads/thread_a/"}],
        "duplicates": 0,
    }
    assert again.json()["results"][0]["outcome"] == "already"
    assert client.get("threads/thread_a/").json() == client.get("threads/").json()["results"][0]


def test_each_thread_gets_an_outcome(api: ApiOf, alice: User) -> None:
    client = api(alice)
    client.post("threads/", {"thread_id": "thread_a"})
    response = client.post("threads/", {"thread_ids": ["thread_b", "../x", "thread_a", "thread_b"]})
    assert response.status_code == 201
    assert [
        (result["thread_id"], result["outcome"], result["url"] is None) for result in response.json()["results"]
    ] == [
        ("thread_b", "added", False),
        ("thread_a", "already", False),
        ("../x", "invalid", True),
    ]
    assert tracked(client) == ["thread_b", "thread_a"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, None),
        ({"thread_id": "a", "thread_ids": ["b"]}, None),
        ({"thread_id": "../x"}, "thread_id"),
        ({"thread_id": 7}, "thread_id"),
        ({"thread_ids": []}, "thread_ids"),
        ({"thread_ids": ["a", 7]}, "thread_ids.1"),
        ({"thread_ids": ["/"]}, "thread_ids"),
        ({"thread_ids": "thread_a"}, "thread_ids"),
        ({"thread_ids": ["a"] * 10_001}, "thread_ids"),
        ({"thread_id": "a", "name": "x"}, "name"),
    ],
)
def test_invalid_thread_field_is_named(body: Any, field: str | None, api: ApiOf, alice: User) -> None:
    data = problem(api(alice).post("threads/", body), 400, "invalid-request")
    assert [error["field"] for error in data["errors"]] == [field]
    assert not Thread.objects.exists()


def test_connection_must_be_named(connect: Callable[..., None], api: ApiOf, alice: User) -> None:
    connect("eu")
    client = api(alice)
    data = problem(client.post("threads/", {"thread_id": "thread_a"}), 400, "invalid-request")
    assert data["errors"][0]["field"] == "connection"
    problem(client.post("threads/", {"thread_id": "thread_a", "connection": "us"}), 400, "unknown-connection")
    for alias in ("default", "eu"):
        response = client.post("threads/", {"thread_id": "thread_a", "connection": alias})
        assert response.json()["results"][0]["url"].endswith(f"?connection={alias}")
    assert tracked(client, "connection=eu") == ["thread_a"]
    problem(client.delete("threads/thread_a/"), 409, "ambiguous-id")
    assert client.delete("threads/thread_a/?connection=eu").status_code == 204
    assert list(Thread.objects.filter(tracked=True).values_list("connection", flat=True)) == ["default"]


def test_untracked_thread_keeps_its_runs(
    sandbox: Sandbox, mirror_run: Callable[..., Run], api: ApiOf, alice: User
) -> None:
    mirror_run(id="run_a", thread_id="thread_a")
    client = api(alice)

    response = client.delete("threads/thread_a/")

    assert (response.status_code, response.content) == (204, b"")
    assert tracked(client) == []
    assert tracked(client, "tracked=false") == ["thread_a"]
    assert client.get("runs/?thread_id=thread_a").json()["results"][0]["id"] == "run_a"
    problem(client.delete("threads/thread_x/"), 404, "not-found")


def test_sync_is_started_and_shown(sandbox: Sandbox, mirror_run: Callable[..., Run], api: ApiOf, alice: User) -> None:
    mirror_run(id="run_a", thread_id="thread_a")
    client = api(alice)

    response = client.post("syncs/", {"kind": "full"})
    again = client.post("syncs/", {"kind": "full", "connection": "default"})

    assert response.status_code == again.status_code == 202
    assert response["Location"] == again["Location"] == response.json()["url"]
    assert response.json()["status"] == "queued"
    syncs.run(Sync.objects.get(), until=float("inf"))
    data = client.get(response["Location"]).json()
    assert (data["status"], data["actor"], data["threads_done"], data["runs_seen"]) == ("completed", "alice", 1, 1)
    assert data["errors"] == []
    (listed,) = client.get("syncs/?status=completed&kind=full&connection=default").json()["results"]
    assert listed | {"errors": []} == data
    assert client.get("syncs/?kind=incremental").json()["results"] == []


def test_sync_reports_its_errors(sandbox: Sandbox, mirror_run: Callable[..., Run], api: ApiOf, alice: User) -> None:
    mirror_run(id="run_a", thread_id="thread_a")
    mirror_run(id="run_b", thread_id="thread_b")
    sandbox.delete_thread("thread_b")
    client = api(alice)

    url = client.post("syncs/", {"thread_id": "thread_b"})["Location"]
    syncs.run(Sync.objects.get(), until=float("inf"))

    data = client.get(url).json()
    assert (data["thread_id"], data["errors_count"]) == ("thread_b", 1)
    assert data["errors"][0]["thread_id"] == "thread_b"
    assert "has no thread with this id" in data["errors"][0]["message"]
    assert SyncError.objects.count() == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"kind": "deep"}, "kind"),
        ({"thread_id": "thread_x"}, "thread_id"),
        ({"thread_id": "a\0"}, "thread_id"),
        ({"since": "x"}, "since"),
    ],
)
def test_invalid_sync_is_a_400(body: Any, field: str, api: ApiOf, alice: User) -> None:
    data = problem(api(alice).post("syncs/", body), 400, "invalid-request")
    assert [error["field"] for error in data["errors"]] == [field]
    assert not Sync.objects.exists()
