"""PostgreSQL is killed at every step, and started again. The tests here have a server of their own for that.

The small rush at the end has a large sister: `python -m tests.crashes.pace`.
"""

from collections.abc import Iterator

import pytest
from django.core.management import call_command
from django.db import connection
from environ import Env
from pytest_django import DjangoDbBlocker

from runsadmin.models import Edit
from tests.crashes.conftest import survived
from tests.crashes.processes import Postgres, until
from tests.crashes.rush import Rush
from tests.crashes.scene import Scene
from tests.crashes.seam import PUSHING, RECONCILING, STEPS, Crash


@pytest.fixture(scope="module")
def postgres(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Postgres]:
    """The connection of this process leads to it, too."""
    server = Postgres(tmp_path_factory.mktemp("pg"))
    usual = dict(connection.settings_dict)
    with django_db_blocker.unblock():
        connection.close()
        connection.settings_dict.update(Env.db_url_config(server.url))
        call_command("migrate", verbosity=0)
        yield server
        connection.close()
        connection.settings_dict.update(usual)
    server.stop()


@pytest.fixture
def transactional_db(postgres: Postgres, transactional_db: None) -> None:
    """On that server."""


def come_back(postgres: Postgres) -> None:
    until(postgres.is_dead)
    postgres.start()
    connection.close()


@pytest.mark.parametrize("step", [*PUSHING, *RECONCILING])
def test_a_database_that_dies_under_a_worker_is_come_back_to(scene: Scene, postgres: Postgres, step: str) -> None:
    with survived(scene) as runs:
        if step in RECONCILING:
            scene.sandbox.fault("lose", method="POST")
        for run in runs:
            scene.record(run, "red")
            scene.record(run, "green")
        scene.worker(Crash(step, whom=postgres.pid))
        come_back(postgres)
        scene.let_claims_run_out()
        scene.wait_for_outcomes()  # It is the same worker that goes on.


@pytest.mark.parametrize("step", STEPS)
def test_a_database_that_dies_under_a_patch_leaves_nothing_undone(scene: Scene, postgres: Postgres, step: str) -> None:
    with survived(scene) as runs:
        web = scene.web(Crash(step, whom=postgres.pid))
        assert web.patch(runs[0].upstream_id, {"team": "red"}, scene.token()) == 500
        come_back(postgres)
        assert Edit.objects.count() == 1
        assert web.answers()


def test_the_pace_is_kept_when_a_worker_is_killed_and_the_database_restarted(scene: Scene, postgres: Postgres) -> None:
    report = Rush(scene, postgres, edits=100, requests_per_minute=600, troubles=2).hurry()
    assert report.is_clean, f"\n{report}"
    assert report.busiest_ten_seconds is not None
    assert (report.restarts, report.restarts_of_the_database) == (1, 1)
