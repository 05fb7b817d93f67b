"""Backups during a small bulk edit, each restored. The large version is `python -m loadtests.backups`."""

import pytest
import requests
from django.contrib.auth.models import Permission

from loadtests.backups_load import BackupsLoad
from loadtests.environment import Environment
from runsadmin.errors import DatabaseInUse
from runsadmin.models import Worker
from runsadmin.services import backups
from tests.waiting import until


def test_backups_of_a_bulk_edit_are_restored(environment: Environment) -> None:
    environment.alice.user_permissions.add(Permission.objects.get(codename="change_connectionstate"))
    report = BackupsLoad(environment, edits=300, count=2, workers=1, latency=200).run()
    assert report.is_clean, f"\n{report}"
    assert report.restores == 2, f"\n{report}"
    assert {"applied", "conflict"} <= report.outcomes_after_releases.keys(), f"\n{report}"


@pytest.mark.parametrize("kind", ["web", "worker"])
def test_running_process_prevents_a_restore(environment: Environment, kind: str) -> None:
    backup = backups.create(environment.folder / "backup").path
    if kind == "web":
        process = environment.web()
        assert requests.get(f"{process.url}/readyz", timeout=5).text == "worker\n"
    else:
        environment.worker()
        until(Worker.objects.exists)
        Worker.objects.all().delete()  # It is noticed even without a heartbeat.
    with pytest.raises(DatabaseInUse, match="Stop all web processes, workers"):
        backups.restore(backup)

    environment.end()

    def is_restored() -> bool:
        Worker.objects.all().delete()
        try:
            backups.restore(backup)
        except DatabaseInUse:  # PostgreSQL takes a moment to notice that a client was killed.
            return False
        return True

    until(is_restored)
