from collections.abc import Callable

import pytest
from django.contrib.auth.models import User

from runsadmin.models import Run, Sync, Thread
from tests.management.conftest import Manage
from tests.sandbox_client import Sandbox, make_run

pytestmark = pytest.mark.django_db


@pytest.fixture
def three_threads(sandbox: Sandbox) -> Sandbox:
    """Three tracked threads: two runs each."""
    for name in "abc":
        sandbox.put_runs(make_run(id=f"run_{name}{n}", thread_id=f"thread_{name}") for n in range(2))
        Thread.objects.create(connection="default", upstream_id=f"thread_{name}")
    return sandbox


def test_second_sync_writes_nothing(three_threads: Sandbox, manage: Manage) -> None:
    said = manage("sync_runs")
    assert said.code == 0, said.err
    assert said.out == "default: completed. 3 of 3 threads, 6 runs read, 6 new, 0 changed, 0 errors.\n"

    assert manage("sync_runs", "--full").out.endswith("6 runs read, 0 new, 0 changed, 0 errors.\n")
    assert set(Run.objects.values_list("version", flat=True)) == {1}


def test_one_thread_is_read_alone(three_threads: Sandbox, manage: Manage) -> None:
    said = manage("sync_runs", "--thread", "thread_b", "--json")
    assert said.code == 0, said.err
    (told,) = said.objects
    assert (told["status"], told["kind"], told["runs_created"]) == ("completed", "incremental", 2)
    assert set(Run.objects.values_list("upstream_id", flat=True)) == {"run_b0", "run_b1"}

    assert "is not tracked" in manage("sync_runs", "--thread", "thread_x").err


def test_unreadable_thread_is_reported(three_threads: Sandbox, manage: Manage) -> None:
    three_threads.delete_thread("thread_b")
    said = manage("sync_runs")
    assert said.code == 1
    assert said.err.startswith("thread_b: Upstream no longer has this thread")
    assert "completed with errors. 3 of 3 threads, 4 runs read" in said.err
    assert Run.objects.count() == 4


def test_refused_credentials_end_the_sync(three_threads: Sandbox, manage: Manage) -> None:
    three_threads.settings(api_key="another")
    said = manage("sync_runs")
    assert said.code == 1
    assert "Waiting for the connection" in said.err
    assert Sync.objects.get().status == Sync.Status.RUNNING  # It goes on by itself when the connection is mended.


def test_every_connection_is_synced_by_default(
    three_threads: Sandbox, connect: Callable[..., None], manage: Manage
) -> None:
    connect("eu")
    Thread.objects.create(connection="eu", upstream_id="thread_a")
    assert [told["connection"] for told in manage("sync_runs", "--json").objects] == ["default", "eu"]
    assert [told["connection"] for told in manage("sync_runs", "--json", "--connection", "eu").objects] == ["eu"]
    assert "There is no connection 'us'." in manage("sync_runs", "--connection", "us").err


def test_viewer_cannot_sync(three_threads: Sandbox, manage: Manage, carol: User) -> None:
    said = manage("sync_runs", "--actor", "carol")
    assert said.code == 1
    assert "may not start a sync" in said.err
    assert not Sync.objects.exists()
