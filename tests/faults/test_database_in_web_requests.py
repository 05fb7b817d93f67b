"""Database faults during web requests: the response says what was saved, and the request can be repeated."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.backends.base import UpdateError
from django.contrib.sessions.backends.db import SessionStore
from django.db import OperationalError, close_old_connections, connection
from django.test import Client

from runsadmin import db_errors
from runsadmin.models import Edit, Thread
from runsadmin.services import connections, edits, tokens
from tests.admin.conftest import base_field, metadata_form, run_url
from tests.conftest import CaptureLog, json_lines
from tests.faults.conftest import Scenario
from tests.faults.database_faults import (
    CutConnection,
    DamagedFile,
    DatabaseFault,
    FullDisk,
    FullDiskAtCommit,
    LockedFile,
    ReadOnly,
)

pytestmark = pytest.mark.django_db(transaction=True)

FAULTS: dict[str, list[type[DatabaseFault]]] = {
    "sqlite": [LockedFile, ReadOnly],
    "postgresql": [CutConnection, ReadOnly],
}
# A full disk may still have room for a small row.
FAULTS_OF_LARGE_WRITES = [
    *FAULTS[connection.vendor],
    *([FullDisk, FullDiskAtCommit] if connection.vendor == "sqlite" else []),
]
only_sqlite = pytest.mark.only_on("sqlite")
LONG = {f"k{number}": "x" * 512 for number in range(12)}


@pytest.fixture(params=FAULTS[connection.vendor])
def fault(request: pytest.FixtureRequest) -> Iterator[DatabaseFault]:
    kind: type[DatabaseFault] = request.param
    fault = kind()
    yield fault
    fault.end()


@pytest.fixture(autouse=True)
def connection_state(db: None) -> None:
    """Creates the connection's row, which a site in use already has."""
    connections.state("default")


@pytest.fixture
def client() -> Client:
    return Client(raise_request_exception=False)


def patch(client: Client, scenario: Scenario, token: str, **headers: str) -> Any:
    return client.patch(
        f"/api/v1/runs/{scenario.run.upstream_id}/", {"metadata": {**LONG, "team": "red"}}, "application/json",
        headers={"Authorization": f"Token {token}", **headers},
    )  # fmt: skip


def problem_detail(response: Any) -> str:
    assert response.status_code == 503
    assert response["Content-Type"] == "application/problem+json"
    assert int(response["Retry-After"]) > 0
    assert response.json()["type"] == "urn:runsadmin:problem:database-unavailable"
    return str(response.json()["detail"])


def error_page(response: Any) -> str:
    assert response.status_code == 503
    assert response["Content-Type"].startswith("text/html")
    assert int(response["Retry-After"]) > 0
    assert "default-src 'self'" in response["Content-Security-Policy"]
    text: str = response.content.decode()
    assert f"Request {response['X-Request-ID']}" in text
    assert response["X-Request-ID"]
    return text


@pytest.mark.parametrize("fault", FAULTS_OF_LARGE_WRITES, indirect=True)
def test_patch_reports_nothing_saved(scenario: Scenario, client: Client, fault: DatabaseFault) -> None:
    token = tokens.create(user=scenario.alice, expires_in=None)
    fault.begin()
    assert "Nothing was saved" in problem_detail(patch(client, scenario, token))
    fault.end()
    assert not Edit.objects.exists()
    assert patch(client, scenario, token).status_code == 200
    scenario.check(posts=1)


@pytest.mark.parametrize("fault", FAULTS_OF_LARGE_WRITES, indirect=True)
def test_form_reports_nothing_saved(scenario: Scenario, client: Client, fault: DatabaseFault) -> None:
    client.force_login(scenario.alice)
    pairs = [(key, value) for key, value in {**LONG, "team": "red"}.items()]
    form = metadata_form(*pairs, base=base_field(client, scenario.run))
    fault.begin()
    assert "Nothing was saved" in error_page(client.post(run_url(scenario.run, "metadata"), form))
    fault.end()
    assert not Edit.objects.exists()
    assert client.post(run_url(scenario.run, "metadata"), form).status_code == 302
    assert Edit.objects.get().status == Edit.Status.APPLIED


def test_sign_in_reports_nothing_saved(alice: User, client: Client, fault: DatabaseFault) -> None:
    form = {"username": "alice", "password": "alice"}
    fault.begin()
    response = client.post("/admin/login/?next=/admin/", form)
    fault.end()
    error_page(response)
    assert client.post("/admin/login/?next=/admin/", form).headers["Location"] == "/admin/"


def test_reads_continue_where_possible(scenario: Scenario, client: Client, fault: DatabaseFault) -> None:
    client.force_login(scenario.alice)
    fault.begin()
    response = client.get(run_url(scenario.run))
    if isinstance(fault, CutConnection):
        assert "Nothing was saved" in error_page(response)
    else:
        assert response.status_code == 200
    fault.end()
    assert client.get(run_url(scenario.run)).status_code == 200


def test_fault_is_logged_once(
    scenario: Scenario, client: Client, fault: DatabaseFault, capture_log: CaptureLog
) -> None:
    token = tokens.create(user=scenario.alice, expires_in=None)
    log = capture_log("json")
    fault.begin()
    response = patch(client, scenario, token, **{"X-Request-ID": "job-7"})
    fault.end()
    assert response["X-Request-ID"] == "job-7"
    (entry,) = (line for line in json_lines(log.getvalue()) if line["level"] not in ("debug", "info"))
    assert entry["request_id"] == "job-7"
    assert entry["event"] == f"Service Unavailable: /api/v1/runs/{scenario.run.upstream_id}/"
    assert "Traceback" in entry["exception"]


def test_possible_save_is_reported_as_unknown(scenario: Scenario, client: Client, monkeypatch: Any) -> None:
    """The response to the commit is lost, or the next query fails."""
    token = tokens.create(user=scenario.alice, expires_in=None)
    record = edits.record

    def record_and_lose_the_response(**values: Any) -> Edit:
        record(**values)
        raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(edits, "record", record_and_lose_the_response)
    detail = problem_detail(patch(client, scenario, token))
    assert "not known whether this was saved" in detail
    client.force_login(scenario.alice)
    text = error_page(
        client.post(run_url(scenario.run, "metadata"), metadata_form(("a", "b"), base=base_field(client, scenario.run)))
    )
    assert "may or may not have been saved" in text
    assert Edit.objects.count() == 2


def test_lost_commit_may_have_saved() -> None:
    def lose(*_: Any) -> None:
        raise OperationalError("server closed the connection unexpectedly")

    with db_errors.watching(), connection.execute_wrapper(lose), pytest.raises(OperationalError):
        Thread.objects.create(connection="default", upstream_id="thread_a")
    assert db_errors.may_have_saved()
    with db_errors.watching(), connection.execute_wrapper(lose), pytest.raises(OperationalError):
        Thread.objects.get(upstream_id="thread_a")
    assert not db_errors.may_have_saved()


@only_sqlite
@pytest.mark.parametrize("fault", [DamagedFile], indirect=True)
def test_damaged_file_is_reported(scenario: Scenario, client: Client, fault: DatabaseFault) -> None:
    token = tokens.create(user=scenario.alice, expires_in=None)
    client.force_login(scenario.alice)
    fault.begin()
    detail = problem_detail(patch(client, scenario, token))
    assert detail == "The database file is damaged: an administrator has to restore a backup. Nothing was saved."
    assert "Its file is damaged" in error_page(client.get("/admin/runsadmin/edit/"))
    assert client.get("/readyz").content == b"database\n"
    fault.end()
    assert patch(client, scenario, token).status_code == 200


@only_sqlite
def test_read_only_file_is_opened_again(scenario: Scenario, client: Client) -> None:
    """A file that could not be opened for writing stays read-only for its connection."""
    token = tokens.create(user=scenario.alice, expires_in=None)
    ReadOnly().begin()
    problem_detail(patch(client, scenario, token))
    close_old_connections()  # As at the end of every request, except in tests.
    assert patch(client, scenario, token).status_code == 200


@only_sqlite
def test_read_only_connection_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_kept() -> bool:
        connection.close()
        connection.ensure_connection()
        close_old_connections()
        return connection.connection is not None

    with monkeypatch.context() as patched:
        patched.setattr(os, "access", lambda *_: False)  # Root may write to every file.
        assert not is_kept()
    assert not is_kept()  # It may share a file with one that was opened before.
    monkeypatch.setattr(db_errors, "_keep_none_until", 0)
    assert is_kept()


def test_unsaved_session_is_not_reported_deleted(alice: User, client: Client, monkeypatch: Any) -> None:
    """Django's session mistakes every database error for a deleted row."""

    def fail(self: SessionStore, must_create: bool = False) -> None:
        if must_create:
            return
        try:
            raise OperationalError("database is locked")
        except OperationalError:
            raise UpdateError  # noqa: B904

    monkeypatch.setattr(SessionStore, "save", fail)
    error_page(client.post("/admin/login/?next=/admin/", {"username": "alice", "password": "alice"}))


def test_internal_error_is_still_a_500(client: Client, scenario: Scenario, monkeypatch: Any) -> None:
    def query_missing_table(**_: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM nowhere")

    monkeypatch.setattr(edits, "record", query_missing_table)
    response = patch(client, scenario, tokens.create(user=scenario.alice, expires_in=None))
    assert response.status_code == 500
