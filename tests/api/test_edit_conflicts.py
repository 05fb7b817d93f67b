"""Simultaneous edits of one run: base, If-Match and conflicts."""

import pytest
from django.contrib.auth.models import User

from runsadmin.models import Edit
from tests.api.conftest import ApiOf, problem
from tests.conftest import MakeRun
from tests.sandbox_client import Sandbox

pytestmark = pytest.mark.django_db(transaction=True)


# --- The field base


def test_edits_of_different_keys_are_merged(
    sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User, bob: User
) -> None:
    mirror_run(id="run_a", metadata={"team": "blue", "env": "prod"})
    seen = {"team": "blue", "env": "prod"}

    assert api(alice).patch("runs/run_a/", {"metadata": {"team": "red"}, "base": seen}).status_code == 200
    assert api(bob).patch("runs/run_a/", {"metadata": {"env": "test"}, "base": seen}).status_code == 200

    assert sandbox.metadata("run_a") == {"team": "red", "env": "test"}


def test_edits_of_the_same_key_conflict(
    sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User, bob: User
) -> None:
    mirror_run(id="run_a", metadata={"team": "blue", "env": "prod"})
    seen = {"team": "blue", "env": "prod"}
    assert api(alice).patch("runs/run_a/", {"metadata": {"team": "red"}, "base": seen}).status_code == 200

    response = api(bob).patch("runs/run_a/", {"metadata": {"team": "green", "env": "test"}, "base": seen})

    data = problem(response, 409, "edit-conflict")
    assert data["conflicts"] == [{"key": "team", "base": "blue", "theirs": "red", "ours": "green"}]
    assert data["edit"]["status"] == "conflict"
    assert sandbox.metadata("run_a") == {"team": "red", "env": "prod"}
    assert api(bob).get(data["edit"]["url"]).json()["conflicts"] == data["conflicts"]


def test_drift_can_cause_a_conflict(sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User) -> None:
    mirror_run(id="run_a", metadata={"team": "blue"})
    sandbox.set_metadata("run_a", {"team": "red", "new": "x"})

    response = api(alice).patch("runs/run_a/", {"metadata": {"team": "green"}, "base": {"team": "blue"}})
    assert problem(response, 409, "edit-conflict")["conflicts"] == [
        {"key": "team", "base": "blue", "theirs": "red", "ours": "green"}
    ]

    response = api(alice).patch("runs/run_a/", {"metadata": {"env": "prod"}, "base": {"team": "blue"}})
    assert response.status_code == 200
    assert sandbox.metadata("run_a") == {"team": "red", "new": "x", "env": "prod"}


def test_null_base_is_empty(sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User) -> None:
    mirror_run(id="run_a", metadata={"team": "blue"})
    response = api(alice).patch("runs/run_a/", {"metadata": {"team": "red"}, "base": None})
    assert problem(response, 409, "edit-conflict")["conflicts"] == [
        {"key": "team", "base": None, "theirs": "blue", "ours": "red"}
    ]


def test_edit_without_base_never_conflicts(sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User) -> None:
    mirror_run(id="run_a", metadata={"team": "blue"})
    sandbox.set_metadata("run_a", {"team": "red", "new": "x"})
    assert api(alice).patch("runs/run_a/", {"metadata": {"team": "green"}}).status_code == 200
    assert sandbox.metadata("run_a") == {"team": "green", "new": "x"}


# --- The header If-Match


def test_stale_if_match_records_nothing(
    sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User, bob: User
) -> None:
    mirror_run(id="run_a", metadata={"team": "blue"})
    etag = api(bob).get("runs/run_a/")["ETag"]
    assert api(alice).patch("runs/run_a/", {"metadata": {"env": "prod"}}, If_Match=etag).status_code == 200

    for base in ({}, {"base": {"team": "blue"}}):
        response = api(bob).patch("runs/run_a/", {"metadata": {"team": "red"}, **base}, If_Match=etag)
        problem(response, 412, "stale-version")

    assert Edit.objects.count() == 1
    assert sandbox.metadata("run_a") == {"team": "blue", "env": "prod"}


def test_matching_version_is_the_base(sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User) -> None:
    mirror_run(id="run_a", metadata={"team": "blue"})
    etag = api(alice).get("runs/run_a/")["ETag"]
    sandbox.set_metadata("run_a", {"team": "red"})

    response = api(alice).patch("runs/run_a/", {"metadata": {"team": "green"}}, If_Match=f'"other", {etag}')

    assert problem(response, 409, "edit-conflict")["conflicts"][0]["base"] == "blue"


def test_base_wins_over_if_match(sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User) -> None:
    mirror_run(id="run_a", metadata={"team": "blue"})
    etag = api(alice).get("runs/run_a/")["ETag"]
    response = api(alice).patch("runs/run_a/", {"metadata": {"team": "red"}, "base": {"team": "old"}}, If_Match=etag)
    assert problem(response, 409, "edit-conflict")["conflicts"][0]["base"] == "old"


def test_if_match_star_is_not_a_base(sandbox: Sandbox, mirror_run: MakeRun, api: ApiOf, alice: User) -> None:
    mirror_run(id="run_a", metadata={"team": "blue"})
    sandbox.set_metadata("run_a", {"team": "red"})
    response = api(alice).patch("runs/run_a/", {"metadata": {"team": "green"}}, If_Match="*")
    assert response.status_code == 200
