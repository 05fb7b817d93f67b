"""`purge_runs`: which runs it erases, what it asks and reports, and what is left in the file of SQLite."""

import random
import re
import sqlite3
import time
from collections.abc import Iterator
from itertools import batched
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.db import connection

from runsadmin.metadata import MetadataPatch
from runsadmin.models import Edit, MetadataPair, Run, SharedText, Sync, Thread
from runsadmin.services import edits, purging, syncs
from tests.conftest import MakeRun
from tests.database import bytes_of
from tests.management.conftest import Manage
from tests.sandbox_client import Sandbox, make_run

pytestmark = pytest.mark.django_db(transaction=True)

DAY = 86_400


@pytest.fixture
def three_runs(mirror_run: MakeRun) -> list[Run]:
    """Three runs that were created three, two and one days ago."""
    now = int(time.time())
    return [mirror_run(metadata={"n": str(age)}, created_at=now - age * DAY - 60) for age in (3, 2, 1)]


def remaining() -> list[str]:
    return sorted(MetadataPair.objects.filter(key="n").values_list("value", flat=True))


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        (["--older-than", "2"], ["1"]),
        (["--before", "2000-01-01"], ["1", "2", "3"]),
        (["--before", "2100-01-01T00:00"], []),
        (["--where", "metadata.n:3 OR metadata.n:1"], ["2"]),
        (["--where", "metadata.n:3", "--connection", "other"], ["1", "2", "3"]),
    ],
)
def test_runs_are_selected(manage: Manage, three_runs: list[Run], arguments: list[str], left: list[str]) -> None:
    planned = manage("purge_runs", *arguments, "--dry-run", "--json")
    assert len(remaining()) == 3
    done = manage("purge_runs", *arguments, "--no-input", "--json")
    assert (planned.code, done.code) == (0, 0)
    assert remaining() == left
    assert planned.objects[-1]["runs"] == done.objects[-1]["runs"] == 3 - len(left)
    assert (planned.objects[-1]["dry_run"], done.objects[-1]["dry_run"]) == (True, False)


def test_ids_select_runs(manage: Manage, three_runs: list[Run]) -> None:
    output = manage("purge_runs", three_runs[0].upstream_id, three_runs[1].upstream_id, "run_unknown", "--no-input")
    assert remaining() == ["1"]
    assert "run_unknown: this run is not in the mirror." in output.err
    assert "Erased 2 runs, 2 pairs and the values of 0 edits." in output.out
    assert output.code == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "exactly one of"),
        (["--where", " "], "every run"),
        (["--where", "state:x"], "state"),
        (["--older-than", "1", "--where", "status:failed"], "exactly one of"),
        (["--before", "yesterday"], "not a date or time"),
        (["--older-than", "1", "--json"], "--no-input"),
    ],
)
def test_wrong_options_erase_nothing(manage: Manage, three_runs: list[Run], arguments: list[str], message: str) -> None:
    output = manage("purge_runs", *arguments)
    assert output.code != 0
    assert message in output.err
    assert remaining() == ["1", "2", "3"]


@pytest.mark.parametrize(("answer", "left"), [("yes", []), ("y", ["1", "2", "3"]), ("", ["1", "2", "3"])])
def test_confirmation_is_required(
    manage: Manage, three_runs: list[Run], monkeypatch: pytest.MonkeyPatch, answer: str, left: list[str]
) -> None:
    monkeypatch.setattr("builtins.input", lambda prompt: answer)
    output = manage("purge_runs", "--older-than", "0")
    assert "erases up to 3 runs" in output.out
    assert remaining() == left


def test_left_out_runs_are_reported(manage: Manage, three_runs: list[Run], alice: User) -> None:
    edits.record(run=three_runs[0], patch=MetadataPatch({"n": "9"}), actor=alice, source=Edit.Source.API)
    output = manage("purge_runs", "--older-than", "0", "--no-input")
    assert "Runs left out because of an edit that is pending: 1." in output.err
    assert output.code == 1
    assert remaining() == ["3"]


def test_interrupted_purge_is_continued(manage: Manage, three_runs: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runsadmin.management.commands.purge_runs.BATCH", 1)
    purge = purging.purge

    def crash_at_the_second(keys: tuple[int, ...]) -> purging.Purged:
        if three_runs[1].pk in keys:
            raise KeyboardInterrupt
        return purge(keys)

    with monkeypatch.context() as patch:
        patch.setattr(purging, "purge", crash_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            manage("purge_runs", "--older-than", "0", "--no-input")
    assert remaining() == ["1", "2"]
    manage("purge_runs", "--older-than", "0", "--no-input")
    assert not Run.objects.exists()


# --- The file


def database_files() -> bytes:
    path = Path(str(connection.settings_dict["NAME"]))
    return bytes_of(path, path.with_name(f"{path.name}-wal"))


@pytest.fixture
def secrets(sandbox: Sandbox, alice: User) -> list[bytes]:
    """Mirrors two hundred runs, edits some of them, and returns everything in their rows that a purge must erase."""
    rng = random.Random(5)
    runs = []
    for number in range(200):
        long = " ".join(f"{rng.getrandbits(40):x}" for _ in range(2000 if number % 10 == 0 else 5))
        texts = {"last_error": {"code": f"code-{number}", "message": f"message {long}"}}
        metadata = {"customer": f"secret-{rng.getrandbits(40):x}", f"key-{rng.getrandbits(40):x}": "v"}
        runs.append(make_run(thread_id=f"thread_{number % 7}", metadata=metadata, instructions="Obey. " * 50, **texts))
    sandbox.put_runs(runs)
    for thread in {run["thread_id"] for run in runs}:
        Thread.objects.create(connection="default", upstream_id=thread)
    syncs.run(syncs.start(connection="default", kind=Sync.Kind.FULL, actor=alice), until=time.monotonic() + 60)
    for run in Run.objects.order_by("pk")[:40]:
        patch = MetadataPatch({"customer": f"new-secret-{rng.getrandbits(40):x}"})
        edit = edits.record(run=run, patch=patch, actor=alice, source=Edit.Source.API)
        edits.push_until_settled(edit, until=time.monotonic() + 10)
    return list(_erasable())


def _erasable() -> Iterator[bytes]:
    for key, value in MetadataPair.objects.values_list("key", "value"):
        yield from (text.encode() for text in (key, value) if "-" in text)
    for run in Run.objects.all():
        yield run.error_code.encode()
    for edit in Edit.objects.all():
        yield str((edit.after or {})["customer"]).encode()
    with connection.cursor() as cursor:
        cursor.execute("SELECT raw FROM runsadmin_run")
        for (raw,) in cursor.fetchall():  # Parts of the compressed JSON, in which texts cannot be searched for.
            yield from (bytes(part) for part in batched(raw[9:], 24, strict=False) if len(part) == 24)
    yield from (text.encode()[:100] for text in SharedText.objects.values_list("text", flat=True))


def test_purged_values_are_not_in_the_file(manage: Manage, secrets: list[bytes]) -> None:
    before = database_files()
    assert len(secrets) > 10_000
    assert sum(secret in before for secret in secrets) > 0.9 * len(secrets)
    output = manage("purge_runs", "--before", "2100-01-01", "--no-input")
    assert output.code == 0
    assert re.search(r"Erased 200 runs, 400 pairs and the values of 40 edits", output.out)
    after = database_files()
    assert [secret for secret in secrets if secret in after] == []
    assert Run.objects.filter(status="purged").count() == 40


def test_file_in_use_is_reported(manage: Manage, mirror_run: MakeRun) -> None:
    mirror_run(metadata={"team": "purged-5b1e9c"})
    reader = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM runsadmin_run").fetchone()  # Keeps the write-ahead log from being emptied.
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout = 100")
    first = manage("purge_runs", "--older-than", "0", "--no-input")
    reader.close()
    connection.close()  # The next connection has the timeout of the settings.
    again = manage("purge_runs", "--older-than", "0")
    assert (first.code, again.code) == (1, 0)
    assert "Erased 1 run, 1 pair and the values of 0 edits." in first.out
    assert "Run the same command again" in first.err
    assert b"purged-5b1e9c" not in database_files()
