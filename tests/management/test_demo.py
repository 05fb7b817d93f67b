"""The data of `make run`."""

import pytest
from django.contrib.auth.models import User

from runsadmin.models import Run, Thread
from scripts import demo
from tests.sandbox_client import Sandbox, make_run

pytestmark = pytest.mark.django_db


def test_deleted_thread_does_not_end_the_demo(
    sandbox: Sandbox, admin_user: User, capsys: pytest.CaptureFixture[str]
) -> None:
    sandbox.put_runs([make_run(id="run_1", thread_id="thread_1")])
    Thread.objects.create(connection="default", upstream_id="thread_deleted")

    demo.mirror_threads(admin_user)

    assert Run.objects.get().upstream_id == "run_1"
    assert "1 error" in capsys.readouterr().out
