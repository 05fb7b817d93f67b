"""One edit through the REST API: it is recorded and sent, and its outcome is returned."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from pytest_django import Settings

from runsadmin.models import Edit, Thread
from runsadmin.services import syncs
from tests.api.conftest import ApiOf, problem
from tests.conftest import MakeRun
from tests.sandbox_client import Sandbox
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)


def sync_all() -> None:
    sync = syncs.start(connection="default", kind="full", actor=None)  # type: ignore[arg-type]
    assert syncs.run(sync, until=float("inf")).status == "completed"


# --- Outcomes


def test_edit_reaches_upstream_and_mirror(sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User) -> None:
    run = mirror_run(id="run_a", metadata={"team": "blue", "old": "x"})

    response = api(alice).patch("runs/run_a/", {"metadata": {"team": "red", "old": None}, "reason": "moved"})

    assert response.status_code == 200
    assert response.json()["metadata"] == {"team": "red"} == sandbox.metadata("run_a")
    edit = Edit.objects.get()
    assert response.json()["mirror"]["edit"] == {
        "id": edit.pk,
        "status": "applied",
        "detail": "",
        "waits_for": None,
        "waits_until": None,
        "next_attempt_at": None,
        "upstream_request_id": sandbox.posts()[0]["request_id"],
        "url": f"http://testserver/api/v1/edits/{edit.pk}/",
    }
    assert (edit.run, edit.actor, edit.source, edit.reason) == (run, alice, "api", "moved")
    run.refresh_from_db()
    assert response["ETag"] == run.etag
    assert api(alice).get("runs/run_a/").json()["metadata"] == {"team": "red"}


def test_merge_patch_media_type_is_accepted(sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User) -> None:
    mirror_run(id="run_a")
    response = api(alice).call("PATCH", "runs/run_a/", {"metadata": {"a": "1"}}, "application/merge-patch+json")
    assert response.status_code == 200
    assert sandbox.metadata("run_a") == {"a": "1"}


def test_null_removes_only_known_keys(sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User) -> None:
    mirror_run(id="run_a", metadata={"team": "blue", "env": "prod"})
    sandbox.set_metadata("run_a", {"team": "blue", "env": "prod", "new": "x"})

    response = api(alice).patch("runs/run_a/", {"metadata": None})

    assert response.status_code == 200
    assert response.json()["metadata"] == {"new": "x"} == sandbox.metadata("run_a")


def test_empty_patch_is_a_400(sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User) -> None:
    mirror_run(id="run_a", metadata={})
    empty: list[Any] = [{}, None]
    for metadata in empty:
        data = problem(api(alice).patch("runs/run_a/", {"metadata": metadata}), 400, "invalid-metadata")
        assert data["errors"][0]["code"] == "nothing_to_change"
    assert not Edit.objects.exists()


def test_edit_differs_if_server_merges(sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User) -> None:
    mirror_run(id="run_a", metadata={"team": "blue", "old": "x"})
    sandbox.settings(modify="merge")

    response = api(alice).patch("runs/run_a/", {"metadata": {"old": None, "team": "red"}})

    assert response.status_code == 200
    assert response.json()["metadata"] == {"team": "red", "old": "x"}
    assert response.json()["mirror"]["edit"]["status"] == "differs"


def test_unchanged_run_keeps_its_etag(sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User) -> None:
    mirror_run(id="run_a", metadata={"team": "blue"})
    before = api(alice).get("runs/run_a/")

    sync_all()

    after = api(alice).get("runs/run_a/")
    assert after["ETag"] == before["ETag"]
    assert after.json()["mirror"]["as_of"] > before.json()["mirror"]["as_of"]
    response = api(alice).patch("runs/run_a/", {"metadata": {"team": "red"}}, If_Match=before["ETag"])
    assert response.status_code == 200


# --- Upstream errors never become a 5xx


def test_active_run_is_a_202(sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User) -> None:
    mirror_run(id="run_a", status="in_progress")

    response = api(alice).patch("runs/run_a/", {"metadata": {"team": "red"}})

    edit = Edit.objects.get()
    assert response.status_code == 202
    assert response["Location"] == f"http://testserver/api/v1/edits/{edit.pk}/"
    assert response.json()["mirror"]["edit"]["status"] == "pending"
    data = api(alice).get(response["Location"]).json()
    assert (data["status"], data["wait_reason"]) == ("pending", "active_run")


def test_slow_upstream_is_a_202(
    sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User, settings: Settings
) -> None:
    mirror_run(id="run_a")
    settings.RUNSADMIN_PUSH_WAIT = 0.2
    sandbox.fault("delay", seconds=1, method="GET")
    response = api(alice).patch("runs/run_a/", {"metadata": {"team": "red"}})
    assert response.status_code == 202
    assert response.json()["mirror"]["edit"]["status"] == "sending"
    until(lambda: Edit.objects.get().has_ended)  # Otherwise, it would go on during the next test.


@pytest.mark.parametrize("fault", [{"kind": "status", "status": 500}, {"kind": "lose"}, {"kind": "garbage"}])
def test_lost_response_is_unknown(
    fault: dict[str, Any], sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User
) -> None:
    mirror_run(id="run_a")
    sandbox.fault(**fault, method="POST")
    response = api(alice).patch("runs/run_a/", {"metadata": {"team": "red"}})
    assert response.status_code == 202
    assert response.json()["mirror"]["edit"]["status"] == "unknown"


def test_rejection_quotes_upstream(sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User) -> None:
    mirror_run(id="run_a")
    sandbox.fault("status", status=400, method="POST", body={"error": {"message": "Not today."}})
    data = problem(api(alice).patch("runs/run_a/", {"metadata": {"team": "red"}}), 422, "edit-rejected")
    assert data["detail"].startswith("Not today.")
    assert data["edit"]["http_status"] == 400


def test_failed_edit_can_be_retried(
    sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User, settings: Settings
) -> None:
    mirror_run(id="run_a")
    settings.RUNSADMIN_MAX_ATTEMPTS = 1
    sandbox.fault("status", status=500, method="GET")
    data = problem(api(alice).patch("runs/run_a/", {"metadata": {"team": "red"}}), 424, "edit-failed")

    response = api(alice).post(f"{data['edit']['url']}retry/")

    assert (response.status_code, response.json()["status"]) == (200, "applied")
    assert sandbox.metadata("run_a") == {"team": "red"}


def test_missing_run_is_a_410(sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User) -> None:
    mirror_run(id="run_a")
    mirror_run(id="run_b", thread_id="thread_b")
    sandbox.delete_run("run_a")

    data = problem(api(alice).post("runs/run_a/refresh/"), 410, "run-gone")
    assert "No run found" in data["detail"]
    assert api(alice).get("runs/run_a/").json()["mirror"]["missing_since"]
    data = problem(api(alice).patch("runs/run_a/", {"metadata": {"team": "red"}}), 422, "edit-rejected")
    assert data["detail"].endswith("Nothing was changed. The mirror keeps its copy of this run.")


# --- Refreshing


def test_refresh_fetches_the_run(sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User) -> None:
    mirror_run(id="run_a", metadata={"team": "blue"})
    before = api(alice).get("runs/run_a/")
    sandbox.set_metadata("run_a", {"team": "red"})

    response = api(alice).post("runs/run_a/refresh/")

    assert response.status_code == 200
    assert response.json()["metadata"] == {"team": "red"}
    assert response["ETag"] != before["ETag"]


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 500},
        {"kind": "status", "status": 503},
        {"kind": "status", "status": 401},
        {"kind": "garbage"},
        {"kind": "cut_halfway"},
    ],
)
def test_failed_refresh_is_a_424(
    fault: dict[str, Any], sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User
) -> None:
    mirror_run(id="run_a")
    sandbox.fault(**fault)
    problem(api(alice).post("runs/run_a/refresh/"), 424, "upstream-fault")


def test_retired_upstream_marks_nothing_missing(sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User) -> None:
    mirror_run(id="run_a")
    mirror_run(id="run_b", thread_id="thread_b")
    sandbox.settings(not_found_for_all=True)
    problem(api(alice).post("runs/run_a/refresh/"), 424, "upstream-fault")
    assert not Thread.objects.exclude(missing_since=None).exists()


# --- Validation before an edit is recorded


@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        ({f"k{n}": "v" for n in range(17)}, "too_many_pairs"),
        ({"k" * 65: "v"}, "key_too_long"),
        ({"k": "v" * 513}, "value_too_long"),
        ({"k": 1}, "invalid_type"),
        ({"k": True}, "invalid_type"),
        ({"k": {"a": "b"}}, "invalid_type"),
        ({"": "v"}, "empty_key"),
        ({"": None}, "empty_key"),
        ({"k": "a\0b"}, "invalid_character"),
        ({"k\0": "v"}, "invalid_character"),
        ({"k": "\ud800"}, "invalid_character"),
        ({"\udfff": "v"}, "invalid_character"),
        ([["k", "v"]], "invalid_type"),
        ("k=v", "invalid_type"),
    ],
)
def test_invalid_metadata_is_a_400(
    metadata: Any, code: str, sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User
) -> None:
    mirror_run(id="run_a")
    sandbox.clear_log()

    data = problem(api(alice).patch("runs/run_a/", {"metadata": metadata}), 400, "invalid-metadata")

    assert [error["code"] for error in data["errors"]] == [code]
    assert data["errors"][0]["field"] == "metadata"
    assert not Edit.objects.exists()
    assert sandbox.log() == []


def test_seventeenth_pair_is_a_400(sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User) -> None:
    mirror_run(id="run_a", metadata={f"k{n}": "v" for n in range(16)})
    data = problem(api(alice).patch("runs/run_a/", {"metadata": {"extra": "v"}}), 400, "invalid-metadata")
    assert "17 pairs" in data["detail"]
    assert api(alice).patch("runs/run_a/", {"metadata": {"extra": "v", "k0": None}}).status_code == 200


def test_limits_count_characters(sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User) -> None:
    mirror_run(id="run_a")
    metadata = {"ключ" * 16: "🦊" * 512}
    assert api(alice).patch("runs/run_a/", {"metadata": metadata}).json()["metadata"] == metadata


@pytest.mark.parametrize(
    "body",
    [
        b'{"metadata": {"team": "a", "team": "b"}}',
        b'{"metadata": {"team": "a"}, "metadata": {"team": "b"}}',
        b'{"metadata": {"team": "a"}',
        b'{"metadata": {"team": NaN}}',
        b"\xff\xfe",
        b"metadata",
        b'{"base": ' + b"[" * 5000 + b"]" * 5000 + b', "metadata": {"a": "b"}}',
        b'{"base": ' + b'{"a":' * 40 + b"1" + b"}" * 40 + b', "metadata": {"a": "b"}}',
        b'{"metadata": {"a": "b"}, "base": {"n": ' + b"9" * 5000 + b"}}",
    ],
)
def test_malformed_json_is_a_400(body: bytes, sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User) -> None:
    mirror_run(id="run_a")
    sandbox.clear_log()
    problem(api(alice).patch("runs/run_a/", body), 400, "malformed-body")
    assert not Edit.objects.exists()
    assert sandbox.log() == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "metadata"),
        ({"metadata": {"a": "b"}, "metdata": {}}, "metdata"),
        ({"metadata": {"a": "b"}, "reason": 7}, "reason"),
        ({"metadata": {"a": "b"}, "reason": "x" * 501}, "reason"),
        ({"metadata": {"a": "b"}, "reason": "a\0b"}, "reason"),
        ({"metadata": {"a": "b"}, "base": "x"}, "base"),
        ([], None),
        ("x", None),
    ],
)
def test_invalid_field_is_named(
    body: Any, field: str | None, sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User
) -> None:
    mirror_run(id="run_a")
    data = problem(api(alice).patch("runs/run_a/", body), 400, "invalid-request")
    assert [error["field"] for error in data["errors"]] == [field]
    assert not Edit.objects.exists()


def test_unknown_field_lists_known_ones(sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User) -> None:
    mirror_run(id="run_a")
    data = problem(api(alice).patch("runs/run_a/", {"metdata": {}}), 400, "invalid-request")
    assert data["detail"] == "metdata: Unknown field. Known: metadata, base, reason."
