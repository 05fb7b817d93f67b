"""Each system check, by its id."""

import pytest
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from django.core.management.base import SystemCheckError
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from pytest_django import Settings

from tests.conftest import Connect

pytestmark = pytest.mark.django_db


def ids() -> list[str | None]:
    return [message.id for message in run_checks() if (message.id or "").startswith("runsadmin.")]


def test_shipped_settings_pass() -> None:
    assert ids() == []


@pytest.mark.parametrize("url", ["http://upstream.example/v1", "http://10.0.0.7/v1"])
def test_w001_key_sent_in_the_clear(connect: Connect, url: str) -> None:
    connect(URL=url)
    assert ids() == ["runsadmin.W001"]


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8001/v1", "http://[::1]/v1", "http://localhost/v1", "https://up.example"]
)
def test_w001_accepts_localhost_and_https(connect: Connect, url: str) -> None:
    connect(URL=url)
    assert ids() == []


def test_e002_azure_identity_not_installed(connect: Connect) -> None:
    connect(AUTH="azure-identity")
    assert ids() == ["runsadmin.E002"]


def test_e003_sqlite_without_lock_timeout(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    sqlite = {"ENGINE": "django.db.backends.sqlite3", "NAME": "x", "OPTIONS": {"timeout": 20}}
    monkeypatch.setitem(settings.DATABASES, "default", sqlite)
    assert ids() == ["runsadmin.E003"]


def test_e004_tasks_outside_the_database(settings: Settings) -> None:
    settings.TASKS = {"default": {"BACKEND": "django.tasks.backends.immediate.ImmediateBackend"}}
    assert ids() == ["runsadmin.E004"]


def test_e008_unapplied_migrations() -> None:
    MigrationRecorder(connection).record_unapplied("runsadmin", "0006_exports")
    checked = run_checks(databases=["default"], include_deployment_checks=True)
    (error,) = [message for message in checked if message.id == "runsadmin.E008"]
    assert "lacks runsadmin.0006_exports. Make a backup, then run `manage.py upgrade`" in error.msg
    assert [message.id for message in run_checks(databases=["default"])] == []  # `migrate` runs these checks.


def test_e009_database_of_a_newer_version() -> None:
    MigrationRecorder(connection).record_applied("runsadmin", "9999_later")
    (error,) = run_checks(databases=["default"])
    assert error.id == "runsadmin.E009"
    assert "runsadmin.9999_later, which the code does not know" in error.msg
    with pytest.raises(SystemCheckError, match=r"runsadmin\.E009"):
        call_command("migrate", verbosity=0, skip_checks=False)


def test_dropped_migration_of_a_package_is_no_error() -> None:
    MigrationRecorder(connection).record_applied("axes", "0000_dropped_since")
    assert run_checks(databases=["default"], include_deployment_checks=False) == []


def test_worker_refuses_another_schema() -> None:
    MigrationRecorder(connection).record_unapplied("runsadmin", "0006_exports")
    with pytest.raises(CommandError, match=r"lacks runsadmin\.0006_exports"):
        call_command("worker", skip_checks=False)
