from collections.abc import Callable

import pytest
from django.contrib.auth.models import User

from runsadmin.models import Edit, Run
from tests.management.conftest import Manage
from tests.sandbox_client import Sandbox

UNSTORABLE = "contains a character that cannot be stored (U+0000 or a lone surrogate). Remove it."

pytestmark = pytest.mark.django_db


def test_named_runs_are_edited(sandbox: Sandbox, mirror_run: Callable[..., Run], manage: Manage, alice: User) -> None:
    for name in "ab":
        mirror_run(id=f"run_{name}", metadata={"team": "blue", "old": "x", "kept": name})

    options = ("--set", "team=red", "--remove", "old", "--reason", "moved", "--actor", "alice")
    output = manage("edit_metadata", "run_a", "run_b", *options)

    assert output.code == 0, output.err
    assert output.out.splitlines() == ["run_a: applied.", "run_b: applied."]
    for name in "ab":
        assert sandbox.metadata(f"run_{name}") == {"team": "red", "kept": name}
        assert Run.objects.get(upstream_id=f"run_{name}").metadata == {"team": "red", "kept": name}
    assert set(Edit.objects.values_list("actor__username", "source", "reason")) == {("alice", "command", "moved")}
    assert all(Edit.objects.values_list("upstream_request_id", flat=True))


def test_output_can_be_json(sandbox: Sandbox, mirror_run: Callable[..., Run], manage: Manage, alice: User) -> None:
    mirror_run(id="run_a")

    output = manage("edit_metadata", "run_a", "run_x", "--set", "team=red", "--actor", "alice", "--json")

    assert output.code == 1
    unknown, edited = output.objects
    assert unknown == {
        "run": "run_x",
        "connection": None,
        "edit": None,
        "status": None,
        "detail": "this run is not in the mirror, so it was not edited. Check the id, or sync its thread first.",
    }
    edit = Edit.objects.get()
    assert edited == {
        "run": "run_a",
        "connection": "default",
        "edit": edit.pk,
        "status": "applied",
        "detail": "",
        "waits_for": None,
        "waits_until": None,
        "upstream_request_id": edit.upstream_request_id,
    }


def test_unknown_runs_are_reported(
    sandbox: Sandbox, mirror_run: Callable[..., Run], manage: Manage, alice: User
) -> None:
    mirror_run(id="run_a")

    output = manage("edit_metadata", "run_x", "run_a", "run_y", "--set", "team=red", "--actor", "alice")

    assert output.code == 1
    assert output.err.splitlines()[:2] == [
        "run_x: this run is not in the mirror, so it was not edited. Check the id, or sync its thread first.",
        "run_y: this run is not in the mirror, so it was not edited. Check the id, or sync its thread first.",
    ]
    assert output.out == "run_a: applied.\n"
    assert sandbox.metadata("run_a") == {"team": "red"}
    assert Edit.objects.count() == 1


def test_refused_edit_fails_the_command(
    sandbox: Sandbox, mirror_run: Callable[..., Run], manage: Manage, alice: User
) -> None:
    mirror_run(id="run_a")
    sandbox.fault("status", status=400, method="POST", body={"error": {"message": "Not today."}})

    output = manage("edit_metadata", "run_a", "--set", "team=red", "--actor", "alice")

    assert output.code == 1
    assert output.err.splitlines()[0] == "run_a: rejected. Not today."


def test_lost_response_is_reconciled(
    sandbox: Sandbox, mirror_run: Callable[..., Run], manage: Manage, alice: User
) -> None:
    mirror_run(id="run_a")
    sandbox.fault("lose", method="POST")

    output = manage("edit_metadata", "run_a", "--set", "team=red", "--actor", "alice")

    assert output.code == 0, output.err
    assert sandbox.metadata("run_a") == {"team": "red"}
    assert len(sandbox.posts("run_a")) == 1


def test_busy_server_is_retried(sandbox: Sandbox, mirror_run: Callable[..., Run], manage: Manage, alice: User) -> None:
    mirror_run(id="run_a")
    sandbox.fault("status", status=503, method="GET")

    output = manage("edit_metadata", "run_a", "--set", "team=red", "--actor", "alice")

    assert output.code == 0, output.err
    assert sandbox.metadata("run_a") == {"team": "red"}


def test_slow_edit_continues_in_background(
    sandbox: Sandbox, mirror_run: Callable[..., Run], manage: Manage, alice: User
) -> None:
    mirror_run(id="run_a", status="in_progress")

    output = manage("edit_metadata", "run_a", "--set", "team=red", "--wait", "0", "--actor", "alice")

    assert output.code == 1
    assert output.err.startswith("run_a: pending. Cannot update run with status 'in_progress'.")
    assert Edit.objects.get().status == Edit.Status.PENDING


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "=x"], "A key cannot be empty."),
        (["--set", "team"], "'team' is not a pair. Use --set KEY=VALUE."),
        (["--set", "a=1", "--set", "a=2"], "The key 'a' is set twice."),
        (["--set", "k" * 65 + "=v"], f"The key '{'k' * 64}…' has 65 characters; at most 64 are allowed."),
        (["--set", "k=" + "v" * 513], "The value of 'k' has 513 characters; at most 512 are allowed."),
        ([f"--set=k{n}=v" for n in range(17)], "This would leave 17 pairs; a run can have at most 16."),
        (["--set", "k=\0"], f"The value of 'k' {UNSTORABLE}"),
        (["--set", "k=\udcff"], f"The value of 'k' {UNSTORABLE}"),
    ],
)
def test_invalid_metadata_records_nothing(
    arguments: list[str], message: str, sandbox: Sandbox, mirror_run: Callable[..., Run], manage: Manage, alice: User
) -> None:
    mirror_run(id="run_a")
    sandbox.clear_log()

    output = manage("edit_metadata", "run_a", *arguments, "--actor", "alice")

    assert (output.code, output.out) == (1, "")
    assert output.err.splitlines() == [message, "Nothing was changed."]
    assert not Edit.objects.exists()
    assert sandbox.log() == []


def test_seventeenth_pair_is_refused(
    sandbox: Sandbox, mirror_run: Callable[..., Run], manage: Manage, alice: User
) -> None:
    mirror_run(id="run_full", metadata={f"k{n}": "v" for n in range(16)})
    mirror_run(id="run_b")
    sandbox.clear_log()

    output = manage("edit_metadata", "run_full", "run_b", "--set", "team=red", "--actor", "alice")

    assert output.code == 1
    assert output.err.splitlines()[0] == "run_full: This would leave 17 pairs; a run can have at most 16."
    assert output.out == "run_b: applied.\n"
    assert sandbox.posts("run_full") == []


def test_viewer_edits_nothing(sandbox: Sandbox, mirror_run: Callable[..., Run], manage: Manage, carol: User) -> None:
    mirror_run(id="run_a")
    sandbox.clear_log()

    output = manage("edit_metadata", "run_a", "--set", "team=red", "--actor", "carol")

    assert output.code == 1
    assert "The account 'carol' may not edit metadata" in output.err
    assert not Edit.objects.exists()
    assert sandbox.log() == []


def test_sole_superuser_is_default_actor(
    sandbox: Sandbox, mirror_run: Callable[..., Run], manage: Manage, make_user: Callable[..., User]
) -> None:
    mirror_run(id="run_a")
    assert "--actor USER" in manage("edit_metadata", "run_a", "--set", "team=red").err

    make_user(username="root", is_superuser=True)
    assert manage("edit_metadata", "run_a", "--set", "team=red").code == 0
    assert Edit.objects.get().actor.username == "root"

    make_user(username="other", is_superuser=True)
    assert "--actor USER" in manage("edit_metadata", "run_a", "--set", "team=blue").err


def test_ambiguous_run_is_refused(
    mirror_run: Callable[..., Run], copy_to_eu: Callable[[Run], None], manage: Manage, alice: User
) -> None:
    copy_to_eu(mirror_run(id="run_a"))

    arguments = ("edit_metadata", "run_a", "--set", "team=red", "--actor", "alice")
    output = manage(*arguments)
    assert output.code == 1
    assert output.err.startswith("run_a: several connections have this run: name one with --connection (default, eu).")
    assert not Edit.objects.exists()

    assert manage(*arguments, "--connection", "eu").code == 0
    assert Edit.objects.get().run.connection == "eu"
    assert "There is no connection 'us'." in manage(*arguments, "--connection", "us").err
