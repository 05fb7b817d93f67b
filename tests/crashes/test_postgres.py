"""PostgreSQL is killed at every step, and started again.

The large version of the rate test is `python -m loadtests.rate`.
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

from loadtests.crash_points import PUSHING, RECONCILING, STEPS, Crash
from loadtests.environment import Environment
from loadtests.processes import Postgres
from loadtests.rate_load import RateLoad
from runsadmin.models import Edit, Run
from tests.conftest import json_lines
from tests.crashes.conftest import recovery_checked
from tests.form_rows import form_rows
from tests.security.conftest import Browser, Site, default_environment
from tests.waiting import until


@pytest.fixture(scope="module")
def postgres(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Postgres]:
    """A PostgreSQL server for these tests only. The test process uses its database, too."""
    server = Postgres(tmp_path_factory.mktemp("pg"))
    original_settings = dict(connection.settings_dict)
    with django_db_blocker.unblock():
        connection.close()
        connection.settings_dict.update(Env.db_url_config(server.url))
        call_command("migrate", verbosity=0)
        yield server
        connection.close()
        connection.settings_dict.update(original_settings)
    server.stop()


@pytest.fixture
def transactional_db(postgres: Postgres, transactional_db: None) -> None:
    """Uses the database of the fixture `postgres`."""


def restart_database(postgres: Postgres) -> None:
    until(postgres.is_dead)
    postgres.start()
    connection.close()


@pytest.mark.parametrize("step", [*PUSHING, *RECONCILING])
def test_worker_survives_database_crash(environment: Environment, postgres: Postgres, step: str) -> None:
    with recovery_checked(environment) as runs:
        if step in RECONCILING:
            environment.sandbox.fault("lose", method="POST")
        for run in runs:
            environment.record(run, "red")
            environment.record(run, "green")
        environment.worker(Crash(step, target_pid=postgres.pid))
        restart_database(postgres)
        environment.expire_claims()
        environment.end_pauses()
        environment.wait_for_outcomes()  # The same worker continues the work.


@pytest.mark.parametrize("step", STEPS)
def test_patch_survives_a_database_crash(environment: Environment, postgres: Postgres, step: str) -> None:
    with recovery_checked(environment) as runs:
        web = environment.web(Crash(step, target_pid=postgres.pid))
        assert web.patch(runs[0].upstream_id, {"team": "red"}, environment.token()) == 503
        restart_database(postgres)
        assert Edit.objects.count() == 1
        assert web.responds()


def test_rate_is_kept_through_crashes(environment: Environment, postgres: Postgres) -> None:
    report = RateLoad(environment, postgres, edits=130, requests_per_minute=900, disruptions=2, workers=2).run()
    assert report.is_clean, f"\n{report}"
    assert report.busiest_ten_seconds is not None
    assert (report.restarts, report.restarts_of_the_database) == (1, 1)


@pytest.fixture
def site(environment: Environment, postgres: Postgres, tmp_path: Path) -> Iterator[Site]:
    site = Site(
        tmp_path,
        default_environment(environment.sandbox, tmp_path) | {"DATABASE_URL": postgres.url, "LOG_FORMAT": "json"},
    )
    site.start_web()
    yield site
    site.stop()


@pytest.fixture
def run(environment: Environment) -> Run:
    return environment.make_runs(1)[0]


@pytest.fixture
def signed_in_browser(site: Site, alice: User) -> Browser:
    browser = site.browser()
    assert browser.sign_in("alice", "alice").ok
    return browser


def test_unavailable_database_is_reported(
    site: Site, signed_in_browser: Browser, environment: Environment, run: Run, postgres: Postgres
) -> None:
    token, browser, signed_out_browser = environment.token(), site.browser(), site.browser()

    def call_api(method: str, path: str, **options: object) -> requests.Response:
        return browser.request(method, path, headers={"Authorization": f"Token {token}"}, **options)

    run_url, form_url = f"/api/v1/runs/{run.upstream_id}/", f"/admin/runsadmin/run/{run.pk}/metadata/"
    red = {"json": {"metadata": {"team": "red"}}}
    green = hidden_fields(signed_in_browser.get(form_url).text) | form_rows({"key": "team", "value": "green"})
    sign_in = hidden_fields(signed_out_browser.get("/admin/login/").text) | {"username": "alice", "password": "alice"}
    assert call_api("GET", run_url).ok
    postgres.stop()

    problems = [call_api("GET", run_url), call_api("PATCH", run_url, **red)]
    pages = [
        signed_in_browser.get("/admin/"),
        signed_in_browser.post(form_url, green),
        signed_out_browser.post("/admin/login/?next=/admin/", sign_in),
    ]
    for response in [*problems, *pages]:
        assert response.status_code == 503
        assert "Nothing was saved" in response.text
        assert int(response.headers["Retry-After"]) > 0
        assert "default-src 'self'" in response.headers["Content-Security-Policy"]
        assert "Set-Cookie" not in response.headers
    assert {response.json()["type"] for response in problems} == {"urn:runsadmin:problem:database-unavailable"}
    assert all(f"Request {response.headers['X-Request-ID']}" in response.text for response in pages)
    assert request_ids_of_errors(site) == [response.headers["X-Request-ID"] for response in [*problems, *pages]]
    assert (browser.get("/livez").status_code, browser.get("/readyz").status_code) == (200, 503)

    restart_database(postgres)
    assert call_api("GET", run_url).ok
    assert signed_in_browser.post(form_url, green, allow_redirects=False).status_code == 302
    assert signed_out_browser.post("/admin/login/?next=/admin/", sign_in, allow_redirects=False).status_code == 302
    assert call_api("PATCH", run_url, **red).status_code == 200
    assert [edit.patch.set["team"] for edit in Edit.objects.order_by("pk")] == ["green", "red"]


def hidden_fields(page: str) -> dict[str, str]:
    """The values of a form's hidden fields."""
    found = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page)
    return {name: html.unescape(value) for name, value in found}


def request_ids_of_errors(site: Site) -> list[str]:
    """The ids of the requests for which an error was logged."""
    return [line["request_id"] for line in json_lines(site.log("web")) if line["level"] == "error"]
