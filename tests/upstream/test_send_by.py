"""A write is never sent too late: the time is checked right before it is sent."""

import time
from collections.abc import Callable

import pytest

from runsadmin import conf
from runsadmin.errors import NotSent
from runsadmin.models import Edit, Run
from runsadmin.upstream import client, deadline_connection
from runsadmin.upstream.client import Client
from tests.faults.conftest import Scenario, at_step, scenario, short_timeouts  # noqa: F401 - fixtures
from tests.sandbox_client import Sandbox

pytestmark = pytest.mark.django_db(transaction=True)


def test_late_write_is_not_sent(sandbox: Sandbox, mirror_run: Callable[..., Run]) -> None:
    run = mirror_run(metadata={"team": "blue"})
    caller = Client(conf.connection("default"))
    with pytest.raises(NotSent, match="not be sent in time"):
        caller.modify_run(run.thread.upstream_id, run.upstream_id, {"team": "red"}, send_by=time.monotonic())
    assert sandbox.posts() == []
    caller.modify_run(run.thread.upstream_id, run.upstream_id, {"team": "red"}, send_by=time.monotonic() + 5)
    assert sandbox.metadata(run.upstream_id) == {"team": "red"}


def test_time_to_connect_counts(
    scenario: Scenario,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A slow name server may take longer than the connect timeout, which only covers connecting to an address."""
    connect = deadline_connection._Connection.connect

    def connect_slowly(self: deadline_connection._Connection) -> None:
        time.sleep(0.7)  # Longer than a write may follow its fetch, given the timeouts of this test.
        connect(self)

    def lose_the_connection() -> None:
        client._sessions.__dict__.clear()
        monkeypatch.setattr(deadline_connection._Connection, "connect", connect_slowly)

    with at_step("intended", lose_the_connection):
        edit = scenario.push()
    monkeypatch.undo()
    assert (edit.status, edit.wait_reason, edit.attempts) == (Edit.Status.PENDING, Edit.WaitReason.RETRY, 1)
    assert scenario.sandbox.posts() == []
    assert scenario.process_due(edit).status == Edit.Status.APPLIED
    scenario.check(posts=1)
