"""Processes that are stopped during requests."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor

from loadtests import log_checks
from loadtests.environment import Environment
from runsadmin.models import Edit
from tests.waiting import until


def test_patch_in_flight_gets_its_response(environment: Environment) -> None:
    run, *_ = environment.make_runs(1)
    web, token = environment.web(processes=2), environment.token()
    environment.sandbox.fault("delay", seconds=0.7, method="POST")
    with ThreadPoolExecutor(1) as pool:
        response = pool.submit(web.patch, run.upstream_id, {"team": "red"}, token)
        until(lambda: Edit.objects.filter(status=Edit.Status.SENDING).exists())
        web.send(signal.SIGTERM)
        assert response.result() == 200
    web.wait(5)
    assert Edit.objects.get().status == Edit.Status.APPLIED


def test_worker_leaves_queued_edits_to_others(environment: Environment) -> None:
    for run in environment.make_runs(150, per_thread=1):
        environment.record(run, "red")
    environment.sandbox.settings(latency_ms=800)
    worker = environment.worker()
    until(environment.sandbox.posts)
    worker.send(signal.SIGTERM)
    stopped_at, calls = time.monotonic(), len(environment.sandbox.log())
    worker.wait()
    assert time.monotonic() - stopped_at < 3
    assert len(environment.sandbox.log()) - calls <= 16, "Only calls in flight, and those that followed at once."
    assert set(Edit.objects.values_list("status", flat=True)) == {Edit.Status.APPLIED, Edit.Status.PENDING}
    environment.sandbox.settings(latency_ms=0)
    environment.worker()
    environment.wait_for_outcomes()
    assert set(Edit.objects.values_list("status", "attempts", "deaths")) == {(Edit.Status.APPLIED, 0, None)}
    assert log_checks.repeated(environment.events) == []
    assert environment.differences() == []
