"""PostgreSQL is killed at every step, and started again. The tests here have a server of their own for that.

The small rush at the end has a large sister: `python -m tests.crashes.pace`.
"""

import html
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from environ import Env
from pytest_django import DjangoDbBlocker

from runsadmin.models import Edit, Run
from tests.conftest import json_lines
from tests.crashes.conftest import survived
from tests.crashes.processes import Postgres
from tests.crashes.rush import Rush
from tests.crashes.scene import Scene
from tests.crashes.seam import PUSHING, RECONCILING, STEPS, Crash
from tests.security.conftest import Browser, Site, shipped
from tests.waiting import until


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
        assert web.patch(runs[0].upstream_id, {"team": "red"}, scene.token()) == 503
        come_back(postgres)
        assert Edit.objects.count() == 1
        assert web.responses()


def test_the_pace_is_kept_when_a_worker_is_killed_and_the_database_restarted(scene: Scene, postgres: Postgres) -> None:
    report = Rush(scene, postgres, edits=130, requests_per_minute=900, troubles=2).hurry()
    assert report.is_clean, f"\n{report}"
    assert report.busiest_ten_seconds is not None
    assert (report.restarts, report.restarts_of_the_database) == (1, 1)


@pytest.fixture
def site(scene: Scene, postgres: Postgres, tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path, shipped(scene.sandbox) | {"DATABASE_URL": postgres.url, "LOG_FORMAT": "json"})
    site.start_web()
    yield site
    site.stop()


@pytest.fixture
def run(scene: Scene) -> Run:
    return scene.make_runs(1)[0]


@pytest.fixture
def signed_in(site: Site, alice: User) -> Browser:
    browser = site.browser()
    assert browser.sign_in("alice", "alice").ok
    return browser


def test_while_the_database_is_away_every_door_says_so_and_the_first_request_after_it_works(
    site: Site, signed_in: Browser, scene: Scene, run: Run, postgres: Postgres
) -> None:
    def call(method: str, path: str, **options: object) -> requests.Response:
        return browser.request(method, path, headers={"Authorization": f"Token {token}"}, **options)

    token, browser, stranger = scene.token(), site.browser(), site.browser()
    address, form_page = f"/api/v1/runs/{run.upstream_id}/", f"/admin/runsadmin/run/{run.pk}/metadata/"
    red = {"json": {"metadata": {"team": "red"}}}
    green = {**fields(signed_in.get(form_page).text), "key": "team", "value": "green"}
    sign_in = fields(stranger.get("/admin/login/").text) | {"username": "alice", "password": "alice"}
    assert call("GET", address).ok
    postgres.stop()

    problems = [call("GET", address), call("PATCH", address, **red)]
    pages = [
        signed_in.get("/admin/"),
        signed_in.post(form_page, green),
        stranger.post("/admin/login/?next=/admin/", sign_in),
    ]
    for response in [*problems, *pages]:
        assert response.status_code == 503
        assert "Nothing was saved" in response.text
        assert int(response.headers["Retry-After"]) > 0
        assert "default-src 'self'" in response.headers["Content-Security-Policy"]
        assert "Set-Cookie" not in response.headers
    assert {response.json()["type"] for response in problems} == {"urn:runsadmin:problem:database-unavailable"}
    assert all(f"Request {response.headers['X-Request-ID']}" in response.text for response in pages)
    assert errors_of(site) == [response.headers["X-Request-ID"] for response in [*problems, *pages]]
    assert (browser.get("/livez").status_code, browser.get("/readyz").status_code) == (200, 503)

    come_back(postgres)
    assert call("GET", address).ok
    assert signed_in.post(form_page, green, allow_redirects=False).status_code == 302
    assert stranger.post("/admin/login/?next=/admin/", sign_in, allow_redirects=False).status_code == 302
    assert call("PATCH", address, **red).status_code == 200
    assert [edit.patch.set["team"] for edit in Edit.objects.order_by("pk")] == ["green", "red"]


def fields(page: str) -> dict[str, str]:
    """What the hidden fields of a form say."""
    found = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page)
    return {name: html.unescape(value) for name, value in found}


def errors_of(site: Site) -> list[str]:
    """The requests that an error in the log is about."""
    return [line["request_id"] for line in json_lines(site.log("web")) if line["level"] == "error"]
