"""A new database with the tables and rows of version 0.1.0, which the test process uses instead of its own."""

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from pytest_django import DjangoDbBlocker

from tests.models import version_0_1_0

RELEASED = ("runsadmin", "0001_version_0_1_0")
NOW = dt.datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=dt.UTC)
TIMES = [NOW, NOW.replace(microsecond=0), NOW.replace(year=1960), NOW.replace(year=9999, microsecond=1)]
INSTRUCTIONS = "Answer in one short paragraph, and cite every document that was used. " * 5
TEXTS = ["plain", "größe 🙂", r"back\slash \x00 \u0041", 'a "quoted" word', "\ud800", "\x00\x01\x02", "{", "x" * 20_000]


def raw_of(number: int) -> str:
    shared = {"instructions": INSTRUCTIONS + str(number % 3), "tools": [{"type": "file_search"}]}
    data = {"id": f"run_{number}", **shared, "metadata": {"text": TEXTS[number % len(TEXTS)]}, "n": number}
    # Spaces and escapes differ from row to row, to test that exactly this text is read again.
    return json.dumps(data, ensure_ascii=True, separators=(", ", ": ") if number % 2 else (",", ":"))


@pytest.fixture
def older_database(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, tmp_path: Path
) -> Iterator[dict[str, dict[str, Any]]]:
    """Creates the database, and returns the columns of its runs by run id."""
    with django_db_blocker.unblock():
        original = dict(connection.settings_dict)
        if connection.vendor == "sqlite":
            name = str(tmp_path / "older.sqlite3")
        else:
            name = f"older_{original['NAME']}"
            with connection.cursor() as cursor:
                cursor.execute(f'CREATE DATABASE "{name}"')
        connection.close()
        connection.settings_dict["NAME"] = name
        try:
            call_command("migrate", *RELEASED, verbosity=0)
            yield _filled()
        finally:
            connection.close()
            connection.settings_dict.update(original)
            if connection.vendor == "postgresql":
                with connection.cursor() as cursor:
                    cursor.execute(f'DROP DATABASE "{name}"')


def _filled() -> dict[str, dict[str, Any]]:
    apps = MigrationExecutor(connection).loader.project_state([RELEASED]).apps
    run_model, pair_model = apps.get_model("runsadmin", "Run"), apps.get_model("runsadmin", "MetadataPair")
    thread = apps.get_model("runsadmin", "Thread").objects.create(
        connection="default", upstream_id="thread_a", listed_from=TIMES[0]
    )
    rows: dict[str, dict[str, Any]] = {}
    for number in range(500):
        time = TIMES[number % len(TIMES)]
        rows[f"run_{number}"] = {
            "created_at": time, "started_at": time, "expires_at": None, "status": "completed", "raw": raw_of(number),
            "digest": f"{number:016}", "duration": dt.timedelta(days=number, microseconds=1), "error_code": "",
            "requested_at": NOW, "received_at": NOW, "connection": "default",
        }  # fmt: skip
    runs = run_model.objects.bulk_create(
        run_model(upstream_id=id, thread=thread, model="gpt-4o", **{**columns, "digest": columns["digest"] * 2})
        for id, columns in rows.items()
    )
    pair_model.objects.bulk_create(
        pair_model(run=run, connection="default", key="team", value=f"v{run.pk % 7}", created_at=run.created_at)
        for run in runs
    )
    version_0_1_0.fill(apps, NOW)
    return rows
