"""A web server that is stopped while it serves a request."""

import signal
from concurrent.futures import ThreadPoolExecutor

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
