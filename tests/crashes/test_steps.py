"""A process is killed at each step from the recording of an edit to its outcome, and a new worker recovers the edit."""

import threading

import pytest

from loadtests import log_checks
from loadtests.crash_points import PUSHING, RECONCILING, STEPS, SYNCING, Crash
from loadtests.environment import Environment
from runsadmin.models import Edit, Run, Thread
from runsadmin.services import threads
from tests.crashes.conftest import recovery_checked
from tests.sandbox_client import make_run
from tests.waiting import until


@pytest.mark.parametrize("step", PUSHING)
def test_push_survives_a_killed_worker(environment: Environment, step: str) -> None:
    with recovery_checked(environment) as runs:
        for run in runs:
            environment.record(run, "red")
            environment.record(run, "green")
        environment.worker(Crash(step)).wait()


@pytest.mark.parametrize("step", RECONCILING)
@pytest.mark.parametrize("fault", ["lose", "cut_before"])
def test_reconcile_survives_a_killed_worker(environment: Environment, fault: str, step: str) -> None:
    with recovery_checked(environment) as runs:
        environment.sandbox.fault(fault, method="POST")
        for run in runs:
            environment.record(run, "red")
        environment.worker(Crash(step)).wait()


@pytest.mark.parametrize("step", STEPS)
def test_patch_survives_a_killed_web_process(environment: Environment, step: str) -> None:
    with recovery_checked(environment) as runs:
        web = environment.web(Crash(step))
        assert web.patch(runs[0].upstream_id, {"team": "red"}, environment.token()) is None
        web.kill()
        assert Edit.objects.count() == 1


@pytest.mark.parametrize("killed", ["worker", "web", "sandbox"])
def test_post_survives_a_killed_process(environment: Environment, killed: str) -> None:
    with recovery_checked(environment) as runs:
        environment.sandbox.fault("slow_response", seconds=60, method="POST")
        if killed == "web":
            web = environment.web()
            patch = threading.Thread(target=web.patch, args=(runs[0].upstream_id, {"team": "red"}, environment.token()))
            patch.start()
            until(lambda: log_checks.writes(environment.events))
            web.kill()
            patch.join()
        else:
            environment.record(runs[0], "red")
            worker = environment.worker()
            until(lambda: log_checks.writes(environment.events))
            if killed == "worker":
                worker.kill()
            else:
                environment.sandbox.kill()
                environment.sandbox.restart()


@pytest.mark.parametrize("step", SYNCING)
def test_sync_survives_a_killed_worker(environment: Environment, step: str) -> None:
    with recovery_checked(environment) as runs:
        environment.sandbox.change_run(runs[0].upstream_id, metadata={"team": "green"})
        sync = environment.start_full_sync()
        environment.worker(Crash(step)).wait()
        environment.expire_claims()
        environment.worker()
        environment.wait_for_sync(sync)
        assert Run.objects.get(pk=runs[0].pk).metadata["team"] == "green"
        environment.record(runs[0], "red")


@pytest.mark.parametrize("pages", [1, 4, 7])
def test_pages_of_a_killed_worker_count_once(environment: Environment, pages: int) -> None:
    """The worker dies with pages that it has read but not stored. They are read again, and their runs count once."""
    with recovery_checked(environment) as runs:
        names = [f"thread_new_{number}" for number in range(5)]
        environment.sandbox.put_runs([make_run(thread_id=name) for name in names for _ in range(3)])
        threads.track(connection="default", thread_ids=names, actor=environment.alice)
        sync, before = environment.start_full_sync(), Run.objects.count()
        environment.worker(Crash("page taken", skip=pages)).wait()
        sync.refresh_from_db()
        assert sync.runs_created == Run.objects.count() - before
        assert sync.threads_done == Thread.objects.filter(pk__lte=sync.last_thread).count()
        environment.expire_claims()
        environment.worker()
        environment.wait_for_sync(sync)
        sync.refresh_from_db()
        assert (sync.status, sync.runs_created) == (sync.Status.COMPLETED, 15)
        environment.record(runs[0], "red")
