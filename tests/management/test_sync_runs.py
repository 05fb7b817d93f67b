from collections.abc import Callable

import pytest
from django.contrib.auth.models import User

from runsadmin.models import Run, Sync, Thread
from tests.management.conftest import Manage
from tests.sandbox_client import Sandbox, make_run

pytestmark = pytest.mark.django_db


@pytest.fixture
def three_threads(sandbox: Sandbox) -> None:
    """Three tracked threads with two runs each."""
    for name in "abc":
        sandbox.put_runs(make_run(id=f"run_{name}{n}", thread_id=f"thread_{name}") for n in range(2))
        Thread.objects.create(connection="default", upstream_id=f"thread_{name}")


def test_second_sync_writes_nothing(three_threads: None, manage: Manage) -> None:
    output = manage("sync_runs")
    assert output.code == 0, output.err
    assert output.out == "default: completed. 3 of 3 threads, 6 runs read, 6 new, 0 changed, 0 errors.\n"

    assert manage("sync_runs", "--full").out.endswith("6 runs read, 0 new, 0 changed, 0 errors.\n")
    assert set(Run.objects.values_list("version", flat=True)) == {1}


def test_single_thread_can_be_synced(three_threads: None, manage: Manage) -> None:
    output = manage("sync_runs", "--thread", "thread_b", "--json")
    assert output.code == 0, output.err
    (data,) = output.objects
    assert (data["status"], data["kind"], data["runs_created"]) == ("completed", "incremental", 2)
    assert set(Run.objects.values_list("upstream_id", flat=True)) == {"run_b0", "run_b1"}

    assert "is not tracked" in manage("sync_runs", "--thread", "thread_x").err


def test_unreadable_thread_is_reported(three_threads: None, sandbox: Sandbox, manage: Manage) -> None:
    sandbox.delete_thread("thread_b")
    output = manage("sync_runs")
    assert output.code == 1
    assert output.err.startswith("thread_b: Upstream has no thread with this id")
    assert "completed with errors. 3 of 3 threads, 4 runs read" in output.err
    assert Run.objects.count() == 4


def test_command_ends_if_credentials_are_refused(three_threads: None, sandbox: Sandbox, manage: Manage) -> None:
    sandbox.settings(api_key="another")
    output = manage("sync_runs")
    assert output.code == 1
    assert "Waiting for the connection" in output.err
    assert Sync.objects.get().status == Sync.Status.RUNNING  # The sync continues when the connection is released.


def test_every_connection_is_synced_by_default(
    three_threads: None, connect: Callable[..., None], manage: Manage
) -> None:
    connect("eu")
    Thread.objects.create(connection="eu", upstream_id="thread_a")
    assert [data["connection"] for data in manage("sync_runs", "--json").objects] == ["default", "eu"]
    assert [data["connection"] for data in manage("sync_runs", "--json", "--connection", "eu").objects] == ["eu"]
    assert "There is no connection 'us'." in manage("sync_runs", "--connection", "us").err


def test_viewer_cannot_sync(three_threads: None, manage: Manage, carol: User) -> None:
    output = manage("sync_runs", "--actor", "carol")
    assert output.code == 1
    assert "may not start a sync" in output.err
    assert not Sync.objects.exists()
