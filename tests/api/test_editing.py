"""The way of one edit through REST: recorded, sent, and told as what it became."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from pytest_django import Settings

from runsadmin.models import Edit, Run, Thread
from runsadmin.services import syncs
from tests.api.conftest import ApiOf, problem
from tests.sandbox_client import Sandbox

pytestmark = pytest.mark.django_db(transaction=True)

type Mirrored = Callable[..., Run]


def sync_all() -> None:
    sync = syncs.start(connection="default", kind="full", actor=None)  # type: ignore[arg-type]
    assert syncs.run(sync, until=float("inf")).status == "completed"


# --- What happens


def test_an_edit_reaches_upstream_the_mirror_and_the_log(
    sandbox: Sandbox, mirrored: Mirrored, api: ApiOf, alice: User
) -> None:
    run = mirrored(id="run_a", metadata={"team": "blue", "old": "x"})

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


def test_a_merge_patch_may_say_that_it_is_one(sandbox: Sandbox, mirrored: Mirrored, api: ApiOf, alice: User) -> None:
    mirrored(id="run_a")
    response = api(alice).call("PATCH", "runs/run_a/", {"metadata": {"a": "1"}}, "application/merge-patch+json")
    assert response.status_code == 200
    assert sandbox.metadata("run_a") == {"a": "1"}


def test_null_clears_what_is_seen_and_a_key_that_is_unknown_here_survives(
    sandbox: Sandbox, mirrored: Mirrored, api: ApiOf, alice: User
) -> None:
    mirrored(id="run_a", metadata={"team": "blue", "env": "prod"})
    sandbox.set_metadata("run_a", {"team": "blue", "env": "prod", "new": "x"})

    response = api(alice).patch("runs/run_a/", {"metadata": None})

    assert response.status_code == 200
    assert response.json()["metadata"] == {"new": "x"} == sandbox.metadata("run_a")


def test_a_patch_that_changes_nothing_is_told(sandbox: Sandbox, mirrored: Mirrored, api: ApiOf, alice: User) -> None:
    mirrored(id="run_a", metadata={})
    nothing: list[Any] = [{}, None]
    for metadata in nothing:
        told = problem(api(alice).patch("runs/run_a/", {"metadata": metadata}), 400, "invalid-metadata")
        assert told["errors"][0]["code"] == "nothing_to_change"
    assert not Edit.objects.exists()


def test_what_upstream_keeps_otherwise_is_told_as_differs(
    sandbox: Sandbox, mirrored: Mirrored, api: ApiOf, alice: User
) -> None:
    mirrored(id="run_a", metadata={"team": "blue", "old": "x"})
    sandbox.settings(modify="merge")

    response = api(alice).patch("runs/run_a/", {"metadata": {"old": None, "team": "red"}})

    assert response.status_code == 200
    assert response.json()["metadata"] == {"team": "red", "old": "x"}
    assert response.json()["mirror"]["edit"]["status"] == "differs"


# --- Two editors


def test_with_a_base_different_keys_of_two_editors_both_survive(
    sandbox: Sandbox, mirrored: Mirrored, api: ApiOf, alice: User, bob: User
) -> None:
    mirrored(id="run_a", metadata={"team": "blue", "env": "prod"})
    seen = {"team": "blue", "env": "prod"}

    assert api(alice).patch("runs/run_a/", {"metadata": {"team": "red"}, "base": seen}).status_code == 200
    assert api(bob).patch("runs/run_a/", {"metadata": {"env": "test"}, "base": seen}).status_code == 200

    assert sandbox.metadata("run_a") == {"team": "red", "env": "test"}


def test_with_a_base_the_second_editor_of_the_same_key_is_told_base_theirs_and_ours(
    sandbox: Sandbox, mirrored: Mirrored, api: ApiOf, alice: User, bob: User
) -> None:
    mirrored(id="run_a", metadata={"team": "blue", "env": "prod"})
    seen = {"team": "blue", "env": "prod"}
    assert api(alice).patch("runs/run_a/", {"metadata": {"team": "red"}, "base": seen}).status_code == 200

    response = api(bob).patch("runs/run_a/", {"metadata": {"team": "green", "env": "test"}, "base": seen})

    told = problem(response, 409, "edit-conflict")
    assert told["conflicts"] == [{"key": "team", "base": "blue", "theirs": "red", "ours": "green"}]
    assert told["edit"]["status"] == "conflict"
    assert sandbox.metadata("run_a") == {"team": "red", "env": "prod"}
    assert api(bob).get(told["edit"]["url"]).json()["conflicts"] == told["conflicts"]


def test_a_change_made_directly_upstream_counts_as_an_editor(
    sandbox: Sandbox, mirrored: Mirrored, api: ApiOf, alice: User
) -> None:
    mirrored(id="run_a", metadata={"team": "blue"})
    sandbox.set_metadata("run_a", {"team": "red", "new": "x"})

    response = api(alice).patch("runs/run_a/", {"metadata": {"team": "green"}, "base": {"team": "blue"}})
    assert problem(response, 409, "edit-conflict")["conflicts"] == [
        {"key": "team", "base": "blue", "theirs": "red", "ours": "green"}
    ]

    response = api(alice).patch("runs/run_a/", {"metadata": {"env": "prod"}, "base": {"team": "blue"}})
    assert response.status_code == 200
    assert sandbox.metadata("run_a") == {"team": "red", "new": "x", "env": "prod"}


def test_a_base_of_null_is_an_empty_map(sandbox: Sandbox, mirrored: Mirrored, api: ApiOf, alice: User) -> None:
    mirrored(id="run_a", metadata={"team": "blue"})
    response = api(alice).patch("runs/run_a/", {"metadata": {"team": "red"}, "base": None})
    assert problem(response, 409, "edit-conflict")["conflicts"] == [
        {"key": "team", "base": None, "theirs": "blue", "ours": "red"}
    ]


def test_without_a_base_the_named_keys_are_set_on_what_upstream_has(
    sandbox: Sandbox, mirrored: Mirrored, api: ApiOf, alice: User
) -> None:
    mirrored(id="run_a", metadata={"team": "blue"})
    sandbox.set_metadata("run_a", {"team": "red", "new": "x"})
    assert api(alice).patch("runs/run_a/", {"metadata": {"team": "green"}}).status_code == 200
    assert sandbox.metadata("run_a") == {"team": "green", "new": "x"}


# --- If-Match


def test_a_stale_version_is_refused_and_nothing_is_recorded(
    sandbox: Sandbox, mirrored: Mirrored, api: ApiOf, alice: User, bob: User
) -> None:
    mirrored(id="run_a", metadata={"team": "blue"})
    seen = api(bob).get("runs/run_a/")["ETag"]
    assert api(alice).patch("runs/run_a/", {"metadata": {"env": "prod"}}, If_Match=seen).status_code == 200

    for base in ({}, {"base": {"team": "blue"}}):
        response = api(bob).patch("runs/run_a/", {"metadata": {"team": "red"}, **base}, If_Match=seen)
        problem(response, 412, "stale-version")

    assert Edit.objects.count() == 1
    assert sandbox.metadata("run_a") == {"team": "blue", "env": "prod"}


def test_the_version_that_matches_is_the_base(sandbox: Sandbox, mirrored: Mirrored, api: ApiOf, alice: User) -> None:
    mirrored(id="run_a", metadata={"team": "blue"})
    seen = api(alice).get("runs/run_a/")["ETag"]
    sandbox.set_metadata("run_a", {"team": "red"})

    response = api(alice).patch("runs/run_a/", {"metadata": {"team": "green"}}, If_Match=f'"other", {seen}')

    assert problem(response, 409, "edit-conflict")["conflicts"][0]["base"] == "blue"


def test_a_base_that_is_given_wins_over_the_version_that_matches(
    sandbox: Sandbox, mirrored: Mirrored, api: ApiOf, alice: User
) -> None:
    mirrored(id="run_a", metadata={"team": "blue"})
    seen = api(alice).get("runs/run_a/")["ETag"]
    response = api(alice).patch("runs/run_a/", {"metadata": {"team": "red"}, "base": {"team": "old"}}, If_Match=seen)
    assert problem(response, 409, "edit-conflict")["conflicts"][0]["base"] == "old"


def test_a_star_matches_any_version_and_is_no_base(
    sandbox: Sandbox, mirrored: Mirrored, api: ApiOf, alice: User
) -> None:
    mirrored(id="run_a", metadata={"team": "blue"})
    sandbox.set_metadata("run_a", {"team": "red"})
    response = api(alice).patch("runs/run_a/", {"metadata": {"team": "green"}}, If_Match="*")
    assert response.status_code == 200


def test_a_sync_that_changed_nothing_makes_no_version_stale(
    sandbox: Sandbox, mirrored: Mirrored, api: ApiOf, alice: User
) -> None:
    mirrored(id="run_a", metadata={"team": "blue"})
    before = api(alice).get("runs/run_a/")

    sync_all()

    after = api(alice).get("runs/run_a/")
    assert after["ETag"] == before["ETag"]
    assert after.json()["mirror"]["as_of"] > before.json()["mirror"]["as_of"]
    response = api(alice).patch("runs/run_a/", {"metadata": {"team": "red"}}, If_Match=before["ETag"])
    assert response.status_code == 200


# --- Idempotency-Key


def test_the_same_request_again_is_the_same_edit(sandbox: Sandbox, mirrored: Mirrored, api: ApiOf, alice: User) -> None:
    mirrored(id="run_a", metadata={"team": "blue"})
    client, change = api(alice), {"metadata": {"team": "red"}}
    seen = client.get("runs/run_a/")["ETag"]

    first, second = (
        client.patch("runs/run_a/", change, Idempotency_Key="k1", If_Match=seen) for _ in range(2)
    )  # By the second time the version is stale: by our own doing.

    assert first.status_code == second.status_code == 200
    assert first.json() == second.json()
    assert Edit.objects.count() == len(sandbox.posts()) == 1


def test_the_same_key_with_another_body_is_refused(
    sandbox: Sandbox, mirrored: Mirrored, api: ApiOf, alice: User, bob: User
) -> None:
    mirrored(id="run_a")
    mirrored(id="run_b")
    assert api(alice).patch("runs/run_a/", {"metadata": {"a": "1"}}, Idempotency_Key="k1").status_code == 200

    response = api(alice).patch("runs/run_a/", {"metadata": {"a": "2"}}, Idempotency_Key="k1")
    problem(response, 422, "key-reused")

    # A key belongs to a user and a run.
    assert api(bob).patch("runs/run_a/", {"metadata": {"a": "2"}}, Idempotency_Key="k1").status_code == 200
    assert api(alice).patch("runs/run_b/", {"metadata": {"a": "2"}}, Idempotency_Key="k1").status_code == 200


@pytest.mark.parametrize("key", ["", "k" * 201, "ключ".encode().decode("latin-1")])
def test_a_key_that_cannot_be_kept_is_refused(
    key: str, sandbox: Sandbox, mirrored: Mirrored, api: ApiOf, alice: User
) -> None:
    mirrored(id="run_a")
    response = api(alice).patch("runs/run_a/", {"metadata": {"a": "1"}}, Idempotency_Key=key)
    assert problem(response, 400, "invalid-request")["errors"][0]["field"] == "Idempotency-Key"
    assert not Edit.objects.exists()


def test_a_request_that_comes_again_while_the_first_is_under_way_sends_nothing(
    sandbox: Sandbox, mirrored: Mirrored, api: ApiOf, alice: User, settings: Settings
) -> None:
    mirrored(id="run_a", status="in_progress")
    for _ in range(3):
        response = api(alice).patch("runs/run_a/", {"metadata": {"a": "1"}}, Idempotency_Key="k1")
        assert response.status_code == 202
    assert len(sandbox.posts()) == 1


# --- What goes wrong upstream is no 5xx


def test_an_active_run_is_waited_for_in_the_background(
    sandbox: Sandbox, mirrored: Mirrored, api: ApiOf, alice: User
) -> None:
    mirrored(id="run_a", status="in_progress")

    response = api(alice).patch("runs/run_a/", {"metadata": {"team": "red"}})

    edit = Edit.objects.get()
    assert response.status_code == 202
    assert response["Location"] == f"http://testserver/api/v1/edits/{edit.pk}/"
    assert response.json()["mirror"]["edit"]["status"] == "pending"
    told = api(alice).get(response["Location"]).json()
    assert (told["status"], told["wait_reason"]) == ("pending", "active_run")


def test_a_slow_upstream_is_not_waited_for_longer_than_set(
    sandbox: Sandbox, mirrored: Mirrored, api: ApiOf, alice: User, settings: Settings
) -> None:
    mirrored(id="run_a")
    settings.RUNSADMIN_PUSH_WAIT = 0.2
    sandbox.fault("delay", seconds=1, method="GET")
    response = api(alice).patch("runs/run_a/", {"metadata": {"team": "red"}})
    assert response.status_code == 202
    assert response.json()["mirror"]["edit"]["status"] == "sending"


@pytest.mark.parametrize("fault", [{"kind": "status", "status": 500}, {"kind": "lose"}, {"kind": "garbage"}])
def test_a_lost_answer_is_unknown_and_goes_on(
    fault: dict[str, Any], sandbox: Sandbox, mirrored: Mirrored, api: ApiOf, alice: User
) -> None:
    mirrored(id="run_a")
    sandbox.fault(**fault, method="POST")
    response = api(alice).patch("runs/run_a/", {"metadata": {"team": "red"}})
    assert response.status_code == 202
    assert response.json()["mirror"]["edit"]["status"] == "unknown"


def test_what_upstream_refuses_is_told_in_its_words(
    sandbox: Sandbox, mirrored: Mirrored, api: ApiOf, alice: User
) -> None:
    mirrored(id="run_a")
    sandbox.fault("status", status=400, method="POST", body={"error": {"message": "Not today."}})
    told = problem(api(alice).patch("runs/run_a/", {"metadata": {"team": "red"}}), 422, "edit-rejected")
    assert told["detail"].startswith("Not today.")
    assert told["edit"]["http_status"] == 400


def test_an_edit_that_could_not_be_sent_has_failed_and_may_be_tried_again(
    sandbox: Sandbox, mirrored: Mirrored, api: ApiOf, alice: User, settings: Settings
) -> None:
    mirrored(id="run_a")
    settings.RUNSADMIN_MAX_ATTEMPTS = 1
    sandbox.fault("status", status=500, method="GET")
    told = problem(api(alice).patch("runs/run_a/", {"metadata": {"team": "red"}}), 424, "edit-failed")

    response = api(alice).post(f"{told['edit']['url']}retry/")

    assert (response.status_code, response.json()["status"]) == (200, "applied")
    assert sandbox.metadata("run_a") == {"team": "red"}


def test_a_run_that_is_gone_is_told(sandbox: Sandbox, mirrored: Mirrored, api: ApiOf, alice: User) -> None:
    mirrored(id="run_a")
    mirrored(id="run_b", thread_id="thread_b")
    sandbox.delete_run("run_a")

    told = problem(api(alice).post("runs/run_a/refresh/"), 410, "run-gone")
    assert "No run found" in told["detail"]
    assert api(alice).get("runs/run_a/").json()["mirror"]["missing_since"]
    problem(api(alice).patch("runs/run_a/", {"metadata": {"team": "red"}}), 422, "edit-rejected")


# --- Refreshing


def test_a_refresh_reads_the_run_anew(sandbox: Sandbox, mirrored: Mirrored, api: ApiOf, alice: User) -> None:
    mirrored(id="run_a", metadata={"team": "blue"})
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
        {"kind": "cut_while"},
    ],
)
def test_a_refresh_that_upstream_fails_is_a_problem_and_no_fault_of_ours(
    fault: dict[str, Any], sandbox: Sandbox, mirrored: Mirrored, api: ApiOf, alice: User
) -> None:
    mirrored(id="run_a")
    sandbox.fault(**fault)
    problem(api(alice).post("runs/run_a/refresh/"), 424, "upstream-fault")


def test_an_upstream_that_is_gone_altogether_is_not_taken_for_a_missing_run(
    sandbox: Sandbox, mirrored: Mirrored, api: ApiOf, alice: User
) -> None:
    mirrored(id="run_a")
    mirrored(id="run_b", thread_id="thread_b")
    sandbox.settings(not_found_for_all=True)
    problem(api(alice).post("runs/run_a/refresh/"), 424, "upstream-fault")
    assert not Thread.objects.exclude(missing_since=None).exists()


# --- What is judged before there is an edit


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
def test_metadata_over_a_limit_is_a_clear_error_and_no_edit(
    metadata: Any, code: str, sandbox: Sandbox, mirrored: Mirrored, api: ApiOf, alice: User
) -> None:
    mirrored(id="run_a")
    sandbox.clear_log()

    told = problem(api(alice).patch("runs/run_a/", {"metadata": metadata}), 400, "invalid-metadata")

    assert [error["code"] for error in told["errors"]] == [code]
    assert told["errors"][0]["field"] == "metadata"
    assert not Edit.objects.exists()
    assert sandbox.log() == []


def test_a_seventeenth_pair_is_judged_by_what_the_run_has(
    sandbox: Sandbox, mirrored: Mirrored, api: ApiOf, alice: User
) -> None:
    mirrored(id="run_a", metadata={f"k{n}": "v" for n in range(16)})
    told = problem(api(alice).patch("runs/run_a/", {"metadata": {"one": "more"}}), 400, "invalid-metadata")
    assert "17 pairs" in told["detail"]
    assert api(alice).patch("runs/run_a/", {"metadata": {"one": "more", "k0": None}}).status_code == 200


def test_limits_count_characters_and_not_bytes(sandbox: Sandbox, mirrored: Mirrored, api: ApiOf, alice: User) -> None:
    mirrored(id="run_a")
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
def test_a_body_that_cannot_be_read_one_way_only_is_refused(
    body: bytes, sandbox: Sandbox, mirrored: Mirrored, api: ApiOf, alice: User
) -> None:
    mirrored(id="run_a")
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
def test_a_wrong_field_is_named(
    body: Any, field: str | None, sandbox: Sandbox, mirrored: Mirrored, api: ApiOf, alice: User
) -> None:
    mirrored(id="run_a")
    told = problem(api(alice).patch("runs/run_a/", body), 400, "invalid-request")
    assert [error["field"] for error in told["errors"]] == [field]
    assert not Edit.objects.exists()


def test_an_unknown_field_is_told_with_those_that_are_known(
    sandbox: Sandbox, mirrored: Mirrored, api: ApiOf, alice: User
) -> None:
    mirrored(id="run_a")
    told = problem(api(alice).patch("runs/run_a/", {"metdata": {}}), 400, "invalid-request")
    assert told["detail"] == "metdata: Unknown field. Known: metadata, base, reason."
