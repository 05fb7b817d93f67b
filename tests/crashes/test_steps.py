"""At every step between the record and the outcome, one of the processes is killed. Nobody helps but a new worker."""

import threading

import pytest

from runsadmin.models import Edit, Run
from tests.crashes import judge
from tests.crashes.conftest import survived
from tests.crashes.scene import Scene
from tests.crashes.seam import PUSHING, RECONCILING, STEPS, SYNCING, Crash
from tests.waiting import until


@pytest.mark.parametrize("step", PUSHING)
def test_a_worker_that_dies_while_it_pushes_leaves_nothing_undone(scene: Scene, step: str) -> None:
    with survived(scene) as runs:
        for run in runs:
            scene.record(run, "red")
            scene.record(run, "green")
        scene.worker(Crash(step)).wait()


@pytest.mark.parametrize("step", RECONCILING)
@pytest.mark.parametrize("fault", ["lose", "cut_before"])
def test_a_worker_that_dies_while_it_looks_after_a_lost_answer_leaves_nothing_undone(
    scene: Scene, fault: str, step: str
) -> None:
    with survived(scene) as runs:
        scene.sandbox.fault(fault, method="POST")
        for run in runs:
            scene.record(run, "red")
        scene.worker(Crash(step)).wait()


@pytest.mark.parametrize("step", STEPS)
def test_a_web_process_that_dies_under_a_patch_leaves_nothing_undone(scene: Scene, step: str) -> None:
    with survived(scene) as runs:
        web = scene.web(Crash(step))
        assert web.patch(runs[0].upstream_id, {"team": "red"}, scene.token()) is None
        web.kill()
        assert Edit.objects.count() == 1


@pytest.mark.parametrize("step", [*PUSHING, *RECONCILING])
def test_a_sandbox_that_dies_is_waited_for(scene: Scene, step: str) -> None:
    with survived(scene) as runs:
        if step in RECONCILING:
            scene.sandbox.fault("lose", method="POST")
        scene.record(runs[0], "red")
        scene.record(runs[0], "green")
        worker = scene.worker(Crash(step, whom=scene.sandbox.process.pid))
        until(scene.sandbox.is_dead)
        scene.sandbox.restart()
        scene.wait_for_outcomes()
        worker.kill()


@pytest.mark.parametrize("dies", ["worker", "web", "sandbox"])
def test_who_dies_while_the_post_is_under_way_leaves_nothing_undone(scene: Scene, dies: str) -> None:
    with survived(scene) as runs:
        scene.sandbox.fault("slow_answer", seconds=60, method="POST")
        if dies == "web":
            web = scene.web()
            patch = threading.Thread(target=web.patch, args=(runs[0].upstream_id, {"team": "red"}, scene.token()))
            patch.start()
            until(lambda: judge.writes(scene.events))
            web.kill()
            patch.join()
        else:
            scene.record(runs[0], "red")
            worker = scene.worker()
            until(lambda: judge.writes(scene.events))
            if dies == "worker":
                worker.kill()
            else:
                scene.sandbox.kill()
                scene.sandbox.restart()


@pytest.mark.parametrize("step", SYNCING)
def test_a_worker_that_dies_in_a_sync_is_followed_by_one_that_ends_it(scene: Scene, step: str) -> None:
    with survived(scene) as runs:
        scene.sandbox.change_run(runs[0].upstream_id, metadata={"team": "green"})
        sync = scene.begin_reading_all()
        scene.worker(Crash(step)).wait()
        scene.let_claims_run_out()
        scene.worker()
        scene.wait_for(sync)
        assert Run.objects.get(pk=runs[0].pk).metadata["team"] == "green"
        scene.record(runs[0], "red")
