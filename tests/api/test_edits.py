"""The log of edits, and the actions on an edit."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from runsadmin.metadata import MetadataPatch
from runsadmin.models import Edit, Run
from runsadmin.services import connections, edits, purging
from runsadmin.services.permissions import Action
from tests.api.conftest import Api, ApiOf, problem
from tests.conftest import EDITOR, MakeRun
from tests.sandbox_client import Sandbox

pytestmark = pytest.mark.django_db(transaction=True)


def patch(client: Api, run_id: str, metadata: dict[str, Any], **more: Any) -> Any:
    return client.patch(f"runs/{run_id}/", {"metadata": metadata, **more})


def make_conflict(sandbox: Sandbox, client: Api, run_id: str = "run_a") -> dict[str, Any]:
    """Makes an edit that conflicts: it changes the team from blue to green, but upstream has red."""
    sandbox.set_metadata(run_id, {"team": "red"})
    edit: dict[str, Any] = patch(client, run_id, {"team": "green"}, base={"team": "blue"}).json()["edit"]
    return edit


def test_log_has_all_fields_of_an_edit(
    sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User, carol: User
) -> None:
    mirror_run(id="run_a", metadata={"team": "blue", "old": "x"})
    body = {"metadata": {"team": "red", "old": None}, "base": {"team": "blue", "old": "x"}, "reason": "moved"}
    api(alice).patch("runs/run_a/", body, X_Request_ID="job-7")

    (data,) = api(carol).get("edits/").json()["results"]

    assert data == api(carol).get(data["url"]).json()
    for name in ("created_at", "sent_at", "finished_at"):
        assert data.pop(name).endswith("Z")
    assert data == {
        "id": Edit.objects.get().pk,
        "url": f"http://testserver/api/v1/edits/{Edit.objects.get().pk}/",
        "connection": "default",
        "run": "run_a",
        "bulk_edit": None,
        "plan_result": "",
        "actor": "alice",
        "source": "api",
        "reason": "moved",
        "status": "applied",
        "wait_reason": "",
        "waits_for": None,
        "waits_until": None,
        "detail": "",
        "base": {"team": "blue", "old": "x"},
        "patch": {"team": "red", "old": None},
        "before": {"team": "blue", "old": "x"},
        "intended": {"team": "red"},
        "after": {"team": "red"},
        "conflicts": [],
        "upstream_request_id": sandbox.posts()[0]["request_id"],
        "http_status": 200,
        "request_id": "job-7",
        "attempts": 0,
        "next_attempt_at": None,
        "restored_from": None,
        "undoes": None,
        "resolves": None,
    }


def test_log_is_filtered(sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User, bob: User) -> None:
    for run_id in ("run_a", "run_b"):
        mirror_run(id=run_id, metadata={"team": "blue"})
    patch(api(alice), "run_a", {"team": "red"})
    patch(api(bob), "run_a", {"team": "x"}, base={"team": "blue"})
    patch(api(bob), "run_b", {"team": "red"})

    def found(query: str) -> list[tuple[str, str, str]]:
        results = api(alice).get(f"edits/?{query}").json()["results"]
        return [(edit["run"], edit["actor"], edit["status"]) for edit in results]

    all_edits = [("run_b", "bob", "applied"), ("run_a", "bob", "conflict"), ("run_a", "alice", "applied")]
    assert found("") == found("connection=default") == all_edits
    assert found("run=run_a") == all_edits[1:]
    assert found("actor=bob&status=applied") == all_edits[:1]
    assert found("status=conflict") == all_edits[1:2]
    assert found("run=run_x") == found("actor=mallory") == []
    problem(api(alice).get("edits/?status=odd"), 400, "invalid-request")


def test_undo_restores_values(sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User, bob: User) -> None:
    mirror_run(id="run_a", metadata={"team": "blue"})
    edit = patch(api(alice), "run_a", {"team": "red", "new": "x"}).json()["mirror"]["edit"]

    response = api(bob).post(f"{edit['url']}undo/", {"reason": "a slip"})

    assert response.status_code == 201
    data = response.json()
    assert response["Location"] == data["url"]
    assert (data["undoes"], data["actor"], data["reason"], data["status"]) == (edit["id"], "bob", "a slip", "applied")
    assert sandbox.metadata("run_a") == {"team": "blue"}


def test_undo_leaves_changed_keys(sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User, bob: User) -> None:
    mirror_run(id="run_a", metadata={"team": "blue"})
    edit = patch(api(alice), "run_a", {"team": "red"}).json()["mirror"]["edit"]
    patch(api(bob), "run_a", {"team": "green"})

    response = api(alice).post(f"{edit['url']}undo/")

    assert (response.status_code, response.json()["status"]) == (201, "skipped")
    assert "team" in response.json()["detail"]
    assert sandbox.metadata("run_a") == {"team": "green"}


def test_only_applied_edits_are_undone(sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User) -> None:
    mirror_run(id="run_a", metadata={"team": "blue"})
    edit = make_conflict(sandbox, api(alice))
    problem(api(alice).post(f"{edit['url']}undo/"), 409, "illegal-change")


def test_conflict_is_resolved(sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User) -> None:
    mirror_run(id="run_a", metadata={"team": "blue"})
    edit = make_conflict(sandbox, api(alice))

    response = api(alice).post(f"{edit['url']}resolve/", {"metadata": {"team": "green"}, "reason": "agreed"})

    assert response.status_code == 201
    assert (response.json()["resolves"], response.json()["status"]) == (edit["id"], "applied")
    assert sandbox.metadata("run_a") == {"team": "green"}


def test_resolution_can_conflict(sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User) -> None:
    mirror_run(id="run_a", metadata={"team": "blue"})
    edit = make_conflict(sandbox, api(alice))
    sandbox.set_metadata("run_a", {"team": "violet"})

    data = problem(api(alice).post(f"{edit['url']}resolve/", {"metadata": {"team": "green"}}), 409, "edit-conflict")

    assert data["conflicts"] == [{"key": "team", "base": "red", "theirs": "violet", "ours": "green"}]
    assert data["edit"]["resolves"] == edit["id"]


def test_only_a_conflict_can_be_resolved(sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User) -> None:
    mirror_run(id="run_a")
    edit = patch(api(alice), "run_a", {"team": "red"}).json()["mirror"]["edit"]
    response = api(alice).post(f"{edit['url']}resolve/", {"metadata": {"team": "green"}})
    problem(response, 409, "illegal-change")
    response = api(alice).post(f"{edit['url']}resolve/", {"metadata": None})
    problem(response, 400, "invalid-request")


def test_pending_edit_is_cancelled_once(sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User) -> None:
    mirror_run(id="run_a", status="queued")
    url = patch(api(alice), "run_a", {"team": "red"})["Location"]

    response = api(alice).post(f"{url}cancel/")

    assert (response.status_code, response.json()["status"]) == (200, "cancelled")
    problem(api(alice).post(f"{url}cancel/"), 409, "illegal-change")
    problem(api(alice).post(f"{url}retry/"), 409, "illegal-change")


def test_restored_edits_are_released(
    sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User, make_user: Callable[..., User]
) -> None:
    runs = [mirror_run(metadata={"team": "blue"}) for _ in range(2)]
    red = MetadataPatch({"team": "red"})
    first, second = (edits.record(run=run, patch=red, actor=alice, source=Edit.Source.API) for run in runs)
    Edit.objects.update(restored_from=timezone.now())
    connections.hold_restored(["default"], timezone.now())

    response = api(alice).post(f"edits/{first.pk}/release/")
    assert (response.status_code, response.json()["status"], response.json()["wait_reason"]) == (202, "pending", "held")
    assert response.json()["restored_from"] is None
    problem(api(alice).post(f"edits/{first.pk}/release/"), 409, "illegal-change")
    problem(api(alice).post("edits/release/", {"connection": "default"}), 403, "not-allowed")
    assert sandbox.posts() == []

    operator = make_user(*EDITOR, Action.HOLD)
    response = api(operator).post("edits/release/", {"connection": "default"})
    assert (response.status_code, response.json()) == (200, {"connection": "default", "released_edits": 1})
    assert edits.push(second).status == "applied"


def test_actions_take_no_fields(sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User) -> None:
    mirror_run(id="run_a", status="queued")
    url = patch(api(alice), "run_a", {"team": "red"})["Location"]
    data = problem(api(alice).post(f"{url}cancel/", {"force": True}), 400, "invalid-request")
    assert data["detail"] == "force: Unknown field. This request accepts no fields."
    assert Edit.objects.get().status == "pending"


def test_purged_run_and_edit_are_shown(mirror_run: MakeRun, api: ApiOf, alice: User) -> None:
    mirror_run(id="run_a", metadata={"team": "secret-before"})
    patch(api(alice), "run_a", {"team": "secret-after"})
    purging.purge([Run.objects.get().pk])
    for path in ("runs/", "runs/run_a/", "edits/", f"edits/{Edit.objects.get().pk}/"):
        response = api(alice).get(path)
        assert response.status_code == 200
        assert "secret" not in response.text
    assert api(alice).get("runs/run_a/").json()["status"] == "purged"
    assert api(alice).get("edits/").json()["results"][0]["patch"] == {}
