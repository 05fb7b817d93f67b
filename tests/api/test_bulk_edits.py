"""Bulk edits through the REST API, from the plan to the undo."""

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.utils import timezone
from django_tasks_db.models import DBTaskResult
from pytest_django import Settings

from runsadmin import tasks
from runsadmin.models import BulkEdit, Run
from runsadmin.services import bulk_edits, edits, runs
from tests.api.bulk_edit import RED_BODY, finish, plan, run_action
from tests.api.conftest import ApiOf, problem
from tests.conftest import MakeRun
from tests.sandbox_client import Sandbox

pytestmark = pytest.mark.django_db(transaction=True)


# --- From the plan to the undo


def test_bulk_edit_from_plan_to_undo(sandbox: Sandbox, run_ids: list[str], api: ApiOf, alice: User) -> None:
    client = api(alice)
    response = client.post("bulk-edits/", {"q": "metadata.team:blue", **RED_BODY}, X_Request_ID="job-7")

    data = response.json()
    assert (response.status_code, response["Location"]) == (202, data["url"])
    assert data["url"] == f"http://testserver/api/v1/bulk-edits/{BulkEdit.objects.get().pk}/"
    fields = (
        "status", "selected", "planned", "q", "set", "reason", "actor", "source", "applied_by", "request_id",
        "connection",
    )  # fmt: skip
    assert [data[name] for name in fields] == [
        "planned", 6, 6, "metadata.team:blue", {"team": "red"}, "moved", "alice", "api", None, "job-7", "default",
    ]  # fmt: skip
    assert data["expires_at"] > data["planned_at"]
    assert data["progress"] == {
        "total": 6, "ended": 0, "statuses": {"planned": 6}, "plan_results": {"change": 6}, "per_second": None,
        "seconds_left": None,
    }  # fmt: skip
    assert sandbox.posts() == []

    data = run_action(client, data["url"], "apply")
    assert (data["status"], data["progress"]["statuses"], data["applied_by"]) == ("queued", {"pending": 6}, "alice")
    data = finish(client, data["url"])

    assert (data["status"], data["progress"]["statuses"]) == ("completed", {"applied": 6})
    assert [sandbox.metadata(id) for id in run_ids] == [{"team": "red", "n": str(n)} for n in range(6)]
    assert client.get("bulk-edits/?status=completed&actor=alice&connection=default").json()["results"] == [
        {
            name: value
            for name, value in data.items()
            if name not in ("progress", "waiting", "changed_since", "not_selected")
        }
    ]
    assert client.get("bulk-edits/?status=planned").json()["results"] == []

    undo = client.post(f"{data['url']}undo/", {"reason": "a slip"})
    assert (undo.status_code, undo["Location"]) == (202, undo.json()["url"])
    assert (undo.json()["undoes"], undo.json()["status"], undo.json()["reason"]) == (data["id"], "planned", "a slip")
    run_action(client, undo["Location"], "apply")
    assert finish(client, undo["Location"])["progress"]["statuses"] == {"applied": 6}
    assert [sandbox.metadata(id) for id in run_ids] == [{"team": "blue", "n": str(n)} for n in range(6)]


def test_plan_is_listed_and_filtered(
    sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User, carol: User
) -> None:
    for id, metadata in {"run_a": {"team": "blue"}, "run_b": {"team": "red"}, "run_c": {"team": "blue"}}.items():
        mirror_run(id=id, metadata=metadata)
    mirror_run(id="run_active", status="in_progress", metadata={"team": "blue"})
    client = api(alice)
    data = plan(client, run_ids=["run_a", "run_b", "run_c", "run_active"], rename={"team": "old"}, set={})

    def found(query: str = "") -> dict[str, tuple[Any, Any]]:
        results = api(carol).get(f"{data['url']}edits/?{query}").json()["results"]
        assert all(edit["bulk_edit"] == data["id"] for edit in results)
        return {edit["run"]: (edit["before"], edit["after"]) for edit in results}

    changes = {
        "run_a": ({"team": "blue"}, {"old": "blue"}),
        "run_b": ({"team": "red"}, {"old": "red"}),
        "run_c": ({"team": "blue"}, {"old": "blue"}),
    }
    assert found() == changes | {"run_active": ({"team": "blue"}, None)}
    assert found("plan_result=change") == found("status=planned") == changes
    assert found("plan_result=active").keys() == found("status=skipped").keys() == {"run_active"}
    first = client.get(f"{data['url']}edits/?page_size=3").json()
    assert [len(first["results"]), len(client.get(first["next"]).json()["results"])] == [3, 1]
    assert len(client.get(f"edits/?bulk_edit={data['id']}&status=planned").json()["results"]) == 3
    problem(client.get(f"{data['url']}edits/?plan_result=odd"), 400, "invalid-request")

    sandbox.set_metadata("run_a", {"team": "blue", "later": "x"})
    run_action(client, data["url"], "apply")
    finish(client, data["url"])
    assert found("status=applied&plan_result=change")["run_a"] == (
        {"team": "blue", "later": "x"},
        {"old": "blue", "later": "x"},
    )


@pytest.mark.parametrize("selected_by", ["ids", "search"])
def test_apply_edits_only_planned_runs(
    selected_by: str, sandbox: Sandbox, run_ids: list[str], mirror_run: MakeRun, api: ApiOf, alice: User
) -> None:
    client = api(alice)
    mirror_run(id="run_other", metadata={"team": "green"})
    selection = {"run_ids": run_ids} if selected_by == "ids" else {"q": "metadata.team:blue"}
    data = plan(client, **selection, set={"owner": "alice"})
    planned = {edit["run"] for edit in client.get(f"{data['url']}edits/").json()["results"]}
    assert planned == set(run_ids)

    # One run no longer matches, one matches now, one is new, one gets another key, and one gets a conflict.
    for id, metadata in {run_ids[0]: {"team": "green"}, "run_other": {"team": "blue"}}.items():
        sandbox.set_metadata(id, metadata)
        runs.refresh(run=Run.objects.get(upstream_id=id), actor=alice)
    mirror_run(id="run_new", thread_id="thread_0", metadata={"team": "blue"})
    sandbox.add_pairs(run_ids[1], {"added": "upstream"})
    sandbox.add_pairs(run_ids[2], {"owner": "bob"})
    assert client.get(data["url"]).json()["changed_since"] == 1
    sandbox.clear_log()
    run_action(client, data["url"], "apply")
    data = finish(client, data["url"])

    assert {edit["run"] for edit in client.get(f"{data['url']}edits/").json()["results"]} == planned
    assert data["progress"]["statuses"] == {"applied": 5, "conflict": 1}
    assert sorted(sandbox.posted_run_ids()) == sorted(planned - {run_ids[2]})
    assert sandbox.metadata(run_ids[0]) == {"team": "green", "owner": "alice"}
    assert sandbox.metadata(run_ids[1]) == {"team": "blue", "n": "1", "added": "upstream", "owner": "alice"}
    assert sandbox.metadata(run_ids[2]) == {"team": "blue", "n": "2", "owner": "bob"}
    assert sandbox.metadata("run_other") == sandbox.metadata("run_new") == {"team": "blue"}


def test_colleague_applies_the_plan(
    sandbox: Sandbox, run_ids: list[str], make_user: Callable[..., User], api: ApiOf, alice: User, bob: User
) -> None:
    bob.user_permissions.remove(Permission.objects.get(codename="apply_bulkedit"))
    url = plan(api(bob), q="metadata.team:blue")["url"]
    data = problem(api(bob).post(f"{url}apply/"), 403, "not-allowed")
    assert "runsadmin.apply_bulkedit" in data["detail"]
    assert run_action(api(alice), url, "apply")["applied_by"] == "alice"
    assert finish(api(alice), url)["progress"]["statuses"] == {"applied": 6}


def test_bulk_edit_is_paused_resumed_and_cancelled(
    sandbox: Sandbox, run_ids: list[str], api: ApiOf, alice: User
) -> None:
    client = api(alice)
    url = plan(client, q="metadata.team:blue", canary=2)["url"]
    run_action(client, url, "apply")
    data = finish(client, url)
    assert (data["status"], data["canary"], data["progress"]["statuses"]) == ("paused", 2, {"applied": 2, "planned": 4})
    problem(client.post(f"{url}pause/"), 409, "illegal-change")

    assert run_action(client, url, "resume")["status"] == "queued"
    assert run_action(client, url, "pause", 200)["status"] == "paused"
    edits.process_due(until=float("inf"))
    assert len(sandbox.posts()) == 2
    data = run_action(client, url, "cancel", 200)
    assert (data["status"], data["progress"]["statuses"]) == ("cancelled", {"applied": 2, "cancelled": 4})
    problem(client.post(f"{url}resume/"), 409, "illegal-change")


def test_failed_edits_are_retried(
    sandbox: Sandbox, run_ids: list[str], api: ApiOf, alice: User, settings: Settings
) -> None:
    settings.RUNSADMIN_MAX_ATTEMPTS = 1
    client = api(alice)
    sandbox.fault("status", status=500, method="GET", times=None)
    url = plan(client, run_ids=run_ids, apply=True)["url"]
    assert finish(client, url)["progress"]["statuses"] == {"failed": 6}
    sandbox.clear_faults()
    assert run_action(client, url, "retry")["status"] == "queued"
    assert finish(client, url)["progress"]["statuses"] == {"applied": 6}
    problem(client.post(f"{url}retry/"), 409, "illegal-change")


def test_bulk_edit_can_wait_for_active_runs(sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User) -> None:
    mirror_run(id="run_a", status="in_progress")
    data = plan(api(alice), run_ids=["run_a"], wait_for_active=60)
    assert (data["wait_for_active"], data["progress"]["plan_results"]) == (60, {"change": 1})
    data = run_action(api(alice), data["url"], "apply")
    waited = dt.datetime.fromisoformat(data["active_until"]) - dt.datetime.fromisoformat(data["applied_at"])
    assert waited == dt.timedelta(minutes=1)


def test_expired_plan_cannot_be_applied(sandbox: Sandbox, run_ids: list[str], api: ApiOf, alice: User) -> None:
    client = api(alice)
    data = plan(client, run_ids=run_ids)
    BulkEdit.objects.update(expires_at=timezone.now())
    refused = problem(client.post(f"{data['url']}apply/"), 409, "illegal-change")
    assert refused["detail"].endswith("this one is expired.")
    data = client.get(data["url"]).json()
    assert (data["status"], data["progress"]["statuses"]) == ("expired", {"cancelled": 6})


# --- Planned and applied in one request


def test_small_plan_is_applied_at_once(sandbox: Sandbox, run_ids: list[str], api: ApiOf, alice: User) -> None:
    data = plan(api(alice), q="metadata.team:blue", apply=True)
    assert (data["status"], data["applied_by"], data["progress"]["statuses"]) == ("queued", "alice", {"pending": 6})
    assert DBTaskResult.objects.get().task_path == tasks.push_edits.module_path
    assert finish(api(alice), data["url"])["progress"]["statuses"] == {"applied": 6}


@pytest.fixture
def two_runs_per_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request plans only one block, of two runs."""
    monkeypatch.setattr(bulk_edits.planning, "BLOCK", 2)
    monkeypatch.setattr(tasks, "PLANNING_SECONDS", 0.0)


def test_large_plan_is_applied_once_complete(
    two_runs_per_block: None, sandbox: Sandbox, run_ids: list[str], api: ApiOf, alice: User
) -> None:
    data = plan(api(alice), q="metadata.team:blue", apply=True)
    assert (data["status"], data["planned"], data["apply_when_planned"]) == ("planning", 2, True)
    assert tasks.plan_bulk_edit.func(data["id"]) == "queued"
    assert DBTaskResult.objects.filter(task_path=tasks.push_edits.module_path).exists()
    assert finish(api(alice), data["url"])["progress"]["statuses"] == {"applied": 6}


def test_apply_needs_its_own_permission(sandbox: Sandbox, run_ids: list[str], api: ApiOf, alice: User) -> None:
    alice.user_permissions.remove(Permission.objects.get(codename="apply_bulkedit"))
    problem(api(alice).post("bulk-edits/", RED_BODY | {"run_ids": run_ids, "apply": True}), 403, "not-allowed")
    assert not BulkEdit.objects.exists()
    assert plan(api(alice), run_ids=run_ids)["status"] == "planned"


def test_plan_is_not_applied_without_permission(
    two_runs_per_block: None, sandbox: Sandbox, run_ids: list[str], api: ApiOf, alice: User
) -> None:
    data = plan(api(alice), q="metadata.team:blue", apply=True)
    alice.user_permissions.remove(Permission.objects.get(codename="apply_bulkedit"))
    tasks.plan_bulk_edit.func(data["id"])
    data = api(alice).get(data["url"]).json()
    assert data["status"] == "planned"
    assert data["detail"].startswith("The plan was not applied: The account 'alice' may not apply bulk edits")
    assert edits.process_due(until=float("inf")) == 0
    assert sandbox.posts() == []


# --- Ids that select no run


def test_unknown_and_ambiguous_ids_are_reported(
    sandbox: Sandbox, mirror_run: MakeRun, copy_to_eu: Callable[[Run], None], api: ApiOf, alice: User
) -> None:
    mirror_run(id="run_a")
    copy_to_eu(mirror_run(id="run_b"))
    client = api(alice)

    data = plan(client, run_ids=["run_x", "run_a", "run_b", "\0", "run_\ud800"])
    unknown = [{"id": id, "why": "unknown"} for id in ("run_x", "\ufffd", "run_\ufffd")]
    assert data["not_selected"] == [*unknown, {"id": "run_b", "why": "ambiguous"}]
    assert client.get(data["url"]).json()["not_selected"] == data["not_selected"]
    assert data["selected"] == 1

    eu_plan = plan(client, run_ids=["run_x", "run_b"], connection="eu")
    assert (eu_plan["connection"], eu_plan["not_selected"]) == ("eu", unknown[:1])
    problem(
        client.post("bulk-edits/", RED_BODY | {"run_ids": ["run_a"], "connection": "us"}), 400, "unknown-connection"
    )

    refused = problem(client.post("bulk-edits/", RED_BODY | {"run_ids": ["run_x", "run_b"]}), 400, "invalid-selection")
    assert refused["not_selected"] == [{"id": "run_x", "why": "unknown"}, {"id": "run_b", "why": "ambiguous"}]
    ambiguous = problem(client.post("bulk-edits/", RED_BODY | {"q": "model:gpt-4o"}), 400, "invalid-selection")
    assert "default, eu" in ambiguous["detail"]


def test_100_000_ids_are_the_limit(sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User) -> None:
    mirror_run(id="run_a")
    unknown = [f"run_{n:024d}" for n in range(99_999)]
    data = plan(api(alice), run_ids=["run_a", *unknown])
    assert (data["selected"], len(data["not_selected"])) == (1, 99_999)
    refused = problem(
        api(alice).post("bulk-edits/", RED_BODY | {"run_ids": ["run_a", "run_b", *unknown]}), 400, "invalid-request"
    )
    assert "100,000" in refused["detail"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, None),
        ({"q": "status:failed", "run_ids": ["run_a"]}, None),
        ({"q": " "}, "q"),
        ({"q": 7}, "q"),
        ({"run_ids": []}, "run_ids"),
        ({"run_ids": "run_a"}, "run_ids"),
        ({"run_ids": ["run_a", 7]}, "run_ids.1"),
        ({"run_ids": ["run_a"], "reason": None}, "reason"),
        ({"run_ids": ["run_a"], "reason": " "}, "reason"),
        ({"run_ids": ["run_a"], "set": []}, "set"),
        ({"run_ids": ["run_a"], "set": {"team": None}}, "set.team"),
        ({"run_ids": ["run_a"], "remove": "team"}, "remove"),
        ({"run_ids": ["run_a"], "rename": {"a": 1}}, "rename.a"),
        ({"run_ids": ["run_a"], "canary": 0}, "canary"),
        ({"run_ids": ["run_a"], "canary": "5"}, "canary"),
        ({"run_ids": ["run_a"], "canary": True}, "canary"),
        ({"run_ids": ["run_a"], "wait_for_active": 2_592_001}, "wait_for_active"),
        ({"run_ids": ["run_a"], "apply": "yes"}, "apply"),
        ({"run_ids": ["run_a"], "where": "x"}, "where"),
    ],
)
def test_invalid_field_is_named(
    body: Any, field: str | None, sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User
) -> None:
    mirror_run(id="run_a")
    data = problem(api(alice).post("bulk-edits/", RED_BODY | body), 400, "invalid-request")
    assert [error["field"] for error in data["errors"]] == [field]
    assert not BulkEdit.objects.exists()


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({"set": {}}, [(None, None, "nothing_to_change")]),
        ({"set": {"k" * 65: "v"}}, [("set", "k" * 65, "key_too_long")]),
        ({"set": {"team": "{nothing}"}}, [("set", "team", "invalid_template")]),
        ({"remove": ["team"]}, [("set", "team", "named_twice")]),
        ({"set": {}, "rename": {"a": ""}}, [("rename", "", "empty_key")]),
        (
            {"set": {"team": "a\0b"}, "remove": [""]},
            [("remove", "", "empty_key"), ("set", "team", "invalid_character")],
        ),
    ],
)
def test_invalid_patch_names_its_field(
    body: Any, errors: list[Any], sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User
) -> None:
    mirror_run(id="run_a")
    data = problem(api(alice).post("bulk-edits/", RED_BODY | {"run_ids": ["run_a"]} | body), 400, "invalid-metadata")
    assert [(error["field"], error["key"], error["code"]) for error in data["errors"]] == errors
    assert not BulkEdit.objects.exists()


def test_patch_of_200_000_keys_is_a_400(sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User) -> None:
    mirror_run(id="run_a")
    body = RED_BODY | {"run_ids": ["run_a"], "remove": [f"k{n}" for n in range(200_000)], "set": {"": "x"}}
    problem(api(alice).post("bulk-edits/", body), 400, "invalid-metadata")
