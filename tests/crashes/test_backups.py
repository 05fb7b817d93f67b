"""Backups during a small bulk edit, each restored. The large version is `python -m loadtests.backups`."""

from collections.abc import Iterator

import pytest
from django.contrib.auth.models import Permission
from django.db import connection

from loadtests.backups_load import BackupsLoad
from loadtests.environment import Environment


@pytest.fixture
def no_replaced_databases() -> Iterator[None]:
    yield
    if connection.vendor == "sqlite":
        from pathlib import Path

        database = Path(str(connection.settings_dict["NAME"]))
        for path in database.parent.glob(f"{database.name}.replaced-*"):
            path.unlink()


def test_backups_of_a_bulk_edit_are_restored(environment: Environment, no_replaced_databases: None) -> None:
    environment.alice.user_permissions.add(Permission.objects.get(codename="change_connectionstate"))
    report = BackupsLoad(environment, edits=400, count=3, workers=1, latency=200).run()
    assert report.is_clean, f"\n{report}"
    assert report.restores == 3, f"\n{report}"
    assert {"applied", "conflict"} <= report.outcomes_after_releases.keys(), f"\n{report}"
