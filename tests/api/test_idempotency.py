"""Idempotency-Key: a repeated request takes effect once."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
import requests
from django.contrib.auth.models import User
from pytest_django.live_server_helper import LiveServer

from runsadmin.errors import IdempotencyKeyInUse
from runsadmin.metadata import MetadataPatch
from runsadmin.models import BulkEdit, Edit, IdempotencyKey
from runsadmin.services import bulk_edits, edits, tokens
from runsadmin.services.idempotency import IdempotentRequest
from tests.api.bulk_edit import RED_BODY, finish, plan
from tests.api.conftest import ApiOf, problem
from tests.conftest import MakeRun
from tests.sandbox_client import Sandbox

pytestmark = pytest.mark.django_db(transaction=True)


# --- Bulk edits


def test_repeated_plan_is_same_bulk_edit(sandbox: Sandbox, run_ids: list[str], api: ApiOf, alice: User) -> None:
    client, body = api(alice), RED_BODY | {"q": "metadata.team:blue", "apply": True}
    first = client.post("bulk-edits/", body, Idempotency_Key="k1")
    finish(client, first["Location"])
    again = client.post("bulk-edits/", body, Idempotency_Key="k1")
    assert (first.status_code, again.status_code, again["Location"]) == (202, 202, first["Location"])
    assert again.json()["status"] == "completed"
    assert BulkEdit.objects.count() == 1
    assert len(sandbox.posts()) == 6


def test_key_of_another_plan_is_a_422(sandbox: Sandbox, run_ids: list[str], api: ApiOf, alice: User, bob: User) -> None:
    body = RED_BODY | {"run_ids": run_ids}
    assert api(alice).post("bulk-edits/", body, Idempotency_Key="k1").status_code == 202
    problem(api(alice).post("bulk-edits/", body | {"canary": 1}, Idempotency_Key="k1"), 422, "key-reused")
    assert BulkEdit.objects.count() == 1
    assert api(bob).post("bulk-edits/", body | {"canary": 1}, Idempotency_Key="k1").status_code == 202


def test_repeated_undo_is_same_bulk_edit(
    sandbox: Sandbox, run_ids: list[str], api: ApiOf, alice: User, bob: User
) -> None:
    client, body = api(alice), {"reason": "a slip"}
    done = finish(client, plan(client, run_ids=run_ids, apply=True)["url"])
    first, again = (client.post(f"{done['url']}undo/", body, Idempotency_Key="k1") for _ in range(2))
    assert (first.status_code, again.status_code, again["Location"]) == (202, 202, first["Location"])
    problem(client.post(f"{done['url']}undo/", {"reason": "another"}, Idempotency_Key="k1"), 422, "key-reused")
    assert BulkEdit.objects.filter(undoes=done["id"]).count() == 1
    assert api(bob).post(f"{done['url']}undo/", body, Idempotency_Key="k1")["Location"] != first["Location"]


def test_failed_request_does_not_use_up_its_key(sandbox: Sandbox, run_ids: list[str], api: ApiOf, alice: User) -> None:
    body = RED_BODY | {"run_ids": ["run_x"]}
    problem(api(alice).post("bulk-edits/", body, Idempotency_Key="k1"), 400, "invalid-selection")
    assert not IdempotencyKey.objects.exists()
    assert api(alice).post("bulk-edits/", RED_BODY | {"run_ids": run_ids}, Idempotency_Key="k1").status_code == 202


def test_simultaneous_plans_are_made_once(
    sandbox: Sandbox, run_ids: list[str], live_server: LiveServer, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    barrier, by_ids = Barrier(2), bulk_edits.by_ids
    headers = {"Idempotency-Key": "k1", "Authorization": f"Token {tokens.create(user=alice, expires_in=None)}"}

    def select_together(*args: Any, **options: Any) -> Any:
        barrier.wait(10)
        return by_ids(*args, **options)

    def post(_: int) -> requests.Response:
        body = RED_BODY | {"run_ids": run_ids}
        return requests.post(f"{live_server}/api/v1/bulk-edits/", json=body, headers=headers, timeout=30)

    monkeypatch.setattr(bulk_edits, "by_ids", select_together)
    with ThreadPoolExecutor(2) as pool:
        recorded, refused = sorted(pool.map(post, range(2)), key=lambda response: response.status_code)

    assert recorded.status_code == 202
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:runsadmin:problem:key-in-use")
    assert (BulkEdit.objects.count(), IdempotencyKey.objects.count()) == (1, 1)
    monkeypatch.undo()
    assert post(0).headers["Location"] == recorded.headers["Location"]


# --- Edits


def test_edit_recorded_after_the_first_check_is_found(sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> None:
    run = mirror_run(id="run_a")

    def record() -> Edit:
        return edits.record(run=run, patch=MetadataPatch({"a": "1"}), actor=alice, source=Edit.Source.API)

    first, second = (IdempotentRequest(Edit, alice, "run 1", "k1", b"{}") for _ in range(2))
    assert first.existing() is second.existing() is None
    edit = first.once(record)
    with pytest.raises(IdempotencyKeyInUse):
        second.once(record)
    assert Edit.objects.get() == edit == second.existing()


def test_unique_key_prevents_a_second_edit(
    sandbox: Sandbox, mirror_run: MakeRun, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = mirror_run(id="run_a")

    def record() -> Edit:
        return edits.record(run=run, patch=MetadataPatch({"a": "1"}), actor=alice, source=Edit.Source.API)

    first, second = (IdempotentRequest(Edit, alice, "run 1", "k1", b"{}") for _ in range(2))
    edit = first.once(record)
    existing = IdempotentRequest.existing

    def miss_once(request: IdempotentRequest[Edit]) -> None:
        """Finds nothing, as if the first request was recorded right after this check."""
        monkeypatch.setattr(IdempotentRequest, "existing", existing)

    monkeypatch.setattr(IdempotentRequest, "existing", miss_once)
    with pytest.raises(IdempotencyKeyInUse):
        second.once(record)
    assert Edit.objects.get() == edit == second.existing()


def test_repeated_patch_is_same_edit(sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User) -> None:
    mirror_run(id="run_a", metadata={"team": "blue"})
    client, change = api(alice), {"metadata": {"team": "red"}}
    etag = client.get("runs/run_a/")["ETag"]

    # The first request makes the ETag stale, but the second one returns the recorded edit instead of a 412.
    first, second = (client.patch("runs/run_a/", change, Idempotency_Key="k1", If_Match=etag) for _ in range(2))

    assert first.status_code == second.status_code == 200
    assert first.json() == second.json()
    assert Edit.objects.count() == len(sandbox.posts()) == 1


def test_reused_key_is_a_422(sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User, bob: User) -> None:
    mirror_run(id="run_a")
    mirror_run(id="run_b")
    assert api(alice).patch("runs/run_a/", {"metadata": {"a": "1"}}, Idempotency_Key="k1").status_code == 200

    response = api(alice).patch("runs/run_a/", {"metadata": {"a": "2"}}, Idempotency_Key="k1")
    problem(response, 422, "key-reused")

    # A key belongs to a user and a run.
    assert api(bob).patch("runs/run_a/", {"metadata": {"a": "2"}}, Idempotency_Key="k1").status_code == 200
    assert api(alice).patch("runs/run_b/", {"metadata": {"a": "2"}}, Idempotency_Key="k1").status_code == 200


@pytest.mark.parametrize("key", ["", "k" * 201, "ключ".encode().decode("latin-1")])
def test_invalid_key_is_a_400(key: str, sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User) -> None:
    mirror_run(id="run_a")
    response = api(alice).patch("runs/run_a/", {"metadata": {"a": "1"}}, Idempotency_Key=key)
    assert problem(response, 400, "invalid-request")["errors"][0]["field"] == "Idempotency-Key"
    assert not Edit.objects.exists()


def test_repeated_patch_of_an_active_run_is_sent_once(
    sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User
) -> None:
    mirror_run(id="run_a", status="in_progress")
    for _ in range(3):
        response = api(alice).patch("runs/run_a/", {"metadata": {"a": "1"}}, Idempotency_Key="k1")
        assert response.status_code == 202
    assert len(sandbox.posts()) == 1
