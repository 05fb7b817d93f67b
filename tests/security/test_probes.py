"""/livez and /readyz, for orchestrators and load balancers: without sign-in and without details."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import OperationalError, connection, connections
from django.db.migrations.recorder import MigrationRecorder
from django.db.models.functions import Now
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from runsadmin import health
from runsadmin.models import Worker

pytestmark = pytest.mark.django_db


def probe(client: Client, path: str = "/readyz") -> tuple[int, str]:
    response = client.get(path)
    assert response["Cache-Control"] == "no-store"
    return response.status_code, response.content.decode().strip()


@pytest.fixture
def worker(db: None) -> Worker:
    return Worker.objects.create(pk="somewhere-1-abcdefgh", seen_at=Now())


@pytest.fixture
def lost_database(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def fail(*_: Any, **__: Any) -> None:
        raise OperationalError("could not connect to secret-host.internal")

    with monkeypatch.context() as context:
        context.setattr(type(connections["default"]), "cursor", fail)
        context.setattr(type(connections["default"]), "ensure_connection", fail)
        yield


def test_site_is_ready_if_all_parts_work(client: Client, worker: Worker) -> None:
    assert probe(client) == (200, "ok")


def test_site_without_worker_is_not_ready(client: Client) -> None:
    assert probe(client) == (503, "worker")


def test_site_with_silent_worker_is_not_ready(client: Client, worker: Worker) -> None:
    seconds = "datetime('now', '-11 seconds')" if connection.vendor == "sqlite" else "now() - interval '11 seconds'"
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE runsadmin_worker SET seen_at = {seconds}")
    assert probe(client) == (503, "worker")


def test_site_to_migrate_is_not_ready(client: Client, worker: Worker) -> None:
    MigrationRecorder(connection).migration_qs.filter(app="runsadmin").delete()
    assert probe(client) == (503, "migrations")


def test_site_with_newer_database_is_not_ready(client: Client, worker: Worker) -> None:
    MigrationRecorder(connection).record_applied("runsadmin", "9999_later")
    assert probe(client) == (503, "version")


def test_site_without_database_is_only_live(client: Client, lost_database: None) -> None:
    assert probe(client) == (503, "database")
    assert probe(client, "/livez") == (200, "ok")


def test_probes_need_few_queries(
    client: Client, worker: Worker, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    health.missing_part()
    with django_assert_max_num_queries(0):
        client.get("/livez")
    with django_assert_max_num_queries(6):
        client.get("/readyz")


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_probes_accept_any_host_but_no_post(client: Client, path: str) -> None:
    response = client.get(path, headers={"Host": "10.0.0.7:8000"})
    assert response.status_code in (200, 503)
    assert not response.cookies
    assert client.head(path).content == b""
    assert client.post(path).status_code == 405
