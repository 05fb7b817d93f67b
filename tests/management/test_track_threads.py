import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User

from runsadmin.models import Thread
from tests.management.conftest import Manage
from tests.sandbox_client import Sandbox, make_run

pytestmark = pytest.mark.django_db


def tracked() -> set[str]:
    return set(Thread.objects.filter(tracked=True).values_list("upstream_id", flat=True))


def test_named_threads_are_tracked_once(manage: Manage, alice: User) -> None:
    output = manage("track_threads", "thread_a", "thread_b", "thread_a", "--actor", "alice")
    assert (output.code, output.out) == (0, "2 now tracked, 0 already tracked.\n")

    output = manage("track_threads", "thread_b", "thread_c", "--actor", "alice", "--json")
    assert output.objects == [
        {"connection": "default", "added": ["thread_c"], "already": ["thread_b"], "invalid": [], "duplicates": 0}
    ]
    assert tracked() == {"thread_a", "thread_b", "thread_c"}


def test_ids_come_from_file_or_stdin(
    manage: Manage, alice: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ids.txt").write_text("\ufeffthread_a\r\n\nthread_b\n")
    assert manage("track_threads", "--from-file", str(tmp_path / "ids.txt"), "--actor", "alice").code == 0

    monkeypatch.setattr("sys.stdin", io.StringIO("thread_c\n"))
    assert manage("track_threads", "--from-file", "-", "--actor", "alice").code == 0

    assert tracked() == {"thread_a", "thread_b", "thread_c"}
    output = manage("track_threads", "--from-file", str(tmp_path / "none"), "--actor", "alice")
    assert output.code == 1
    assert "cannot be read" in output.err


def test_all_listed_threads_are_tracked(sandbox: Sandbox, manage: Manage, alice: User) -> None:
    ids = {f"thread_{number:03}" for number in range(120)}
    sandbox.put_runs(make_run(thread_id=thread_id) for thread_id in ids)

    assert manage("track_threads", "--listed", "--actor", "alice").out == "120 now tracked, 0 already tracked.\n"
    assert tracked() == ids


def test_server_without_lists_is_reported(sandbox: Sandbox, manage: Manage, alice: User) -> None:
    sandbox.settings(lists_threads=False)
    output = manage("track_threads", "--listed", "--actor", "alice")
    assert output.code == 1
    assert output.err == "The upstream of connection 'default' cannot list its threads. Name them instead.\n"


def test_invalid_ids_are_reported(manage: Manage, alice: User) -> None:
    output = manage("track_threads", "../x", "thread_a", "--actor", "alice")
    assert output.code == 1
    assert output.err.splitlines()[0] == "'../x' is not a valid thread id."
    assert tracked() == {"thread_a"}


def test_viewer_cannot_track(manage: Manage, carol: User) -> None:
    output = manage("track_threads", "thread_a", "--actor", "carol")
    assert output.code == 1
    assert "may not track threads" in output.err
    assert tracked() == set()


def test_nothing_to_track_is_an_error(manage: Manage, alice: User) -> None:
    assert "Name the threads" in manage("track_threads", "--actor", "alice").err


def test_connection_is_required_if_ambiguous(connect: Callable[..., Any], manage: Manage, alice: User) -> None:
    connect("eu")
    assert "Name one: --connection default | eu." in manage("track_threads", "thread_a", "--actor", "alice").err
    assert manage("track_threads", "thread_a", "--actor", "alice", "--connection", "eu").code == 0
    assert Thread.objects.get().connection == "eu"
