"""Rows that are inserted without the ORM are the same as with it."""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import Model

from runsadmin.models import MetadataPair, Run, SharedText, Thread
from runsadmin.models.bulk_insert import insert_rows, reserve_ids
from runsadmin.models.stored_json import Unpacked, pack

pytestmark = pytest.mark.django_db

NOON = dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC)
# Text with a meaning in COPY, in SQL or in formats, and characters that some databases cannot store.
TEXTS = (
    "", "plain", "a\tb\nc\rd", "\\N", "\\.", "\\x41", "%s {} ?", "'); --", '"quoted"', "a\0b", "\ud800", "日本 🙂",
    "x" * 512,
)  # fmt: skip
TIMES = (None, NOON, NOON + dt.timedelta(microseconds=1), dt.datetime(1970, 1, 1, 0, 0, 1, tzinfo=dt.UTC))
COUNTS = (None, 0, 1, 2**63 - 1)
DURATIONS = (None, dt.timedelta(), dt.timedelta(days=40_000, microseconds=7))


@pytest.fixture
def thread() -> Thread:
    return Thread.objects.create(connection="default", upstream_id="thread_a")


def run_row(thread: Thread, number: int, **values: object) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": number + 1, "connection": "default", "upstream_id": f"run_{number}", "thread_id": thread.pk,
        "status": "completed", "model": "gpt-4o", "created_at": NOON, "raw": "{}", "digest": f"{number:016}",
        "requested_at": NOON, "received_at": NOON,
    }  # fmt: skip
    return row | values


def stored(model: type[Model]) -> list[Sequence[Any]]:
    """The columns of all rows, as the driver returns them."""
    order = ", ".join(str(field.column) for field in model._meta.pk_fields)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {model._meta.db_table} ORDER BY {order}")
        return list(cursor.fetchall())


def assert_same_as_orm(model: type[Model], rows: list[dict[str, Any]]) -> None:
    with transaction.atomic():
        model._default_manager.bulk_create([model(**row) for row in rows])
        expected = stored(model)
        transaction.set_rollback(True)
    insert_rows(model, rows)
    assert len(expected) == len(rows)
    assert stored(model) == expected


def test_runs_are_the_same_as_with_the_orm(thread: Thread) -> None:
    columns: list[Mapping[str, object]] = [
        *({"model": text, "error_code": text[:128]} for text in TEXTS if len(text) <= 256),
        *({"started_at": time, "needs_refresh_since": time} for time in TIMES),
        *({"total_tokens": count, "duration": duration} for count in COUNTS for duration in DURATIONS),
        {"created_at_is_known": False, "metadata_state": "not_shown", "version": 3},
    ]
    for number, values in enumerate(columns):
        assert_same_as_orm(Run, [run_row(thread, number, **values)])
        Run.objects.all().delete()


def test_pairs_are_the_same_as_with_the_orm(thread: Thread) -> None:
    insert_rows(Run, [run_row(thread, 0)])
    rows: list[dict[str, Any]] = [
        {"run_id": 1, "key": f"{number} {text}"[:512], "value": text, "created_at": NOON}
        for number, text in enumerate(TEXTS)
    ]
    assert_same_as_orm(MetadataPair, rows)


def test_compressed_json_is_inserted(thread: Thread) -> None:
    instructions = '"instructions":"' + "Answer in one sentence. " * 20 + '"'
    texts = [f'{{"id":"run_{number}",{instructions},"text":"日本 \\u0000"}}' for number in range(3)]
    packed = pack([Unpacked(text, [instructions]) for text in texts])
    assert_same_as_orm(Run, [run_row(thread, number, **columns) for number, columns in enumerate(packed)])
    assert SharedText.objects.count() == 1
    assert [run.raw for run in Run.objects.order_by("id")] == texts


def test_defaults_are_those_of_the_model(thread: Thread) -> None:
    insert_rows(Run, [run_row(thread, 0), run_row(thread, 1)])
    for run in Run.objects.all():
        assert (run.version, run.created_at_is_known, run.metadata_state, run.model) == (1, True, "", "gpt-4o")
        assert (run.started_at, run.total_tokens, run.missing_since) == (None, None, None)


def test_duplicate_is_an_integrity_error(thread: Thread) -> None:
    insert_rows(Run, [run_row(thread, 0)])
    with pytest.raises(IntegrityError), transaction.atomic():
        insert_rows(Run, [run_row(thread, 1), run_row(thread, 2, upstream_id="run_0")])
    assert Run.objects.count() == 1


def test_nothing_is_inserted_for_no_rows(thread: Thread) -> None:
    insert_rows(Run, [])
    assert not Run.objects.exists()


def test_ids_are_new_and_ascending(thread: Thread) -> None:
    earlier = Run.objects.create(**run_row(thread, 0, id=None))
    first, second, third = reserve_ids(Run, 3)
    assert earlier.pk < first < second < third
    insert_rows(Run, [run_row(thread, number, id=id) for number, id in enumerate((first, second, third), 1)])
    assert Run.objects.create(**run_row(thread, 4, id=None)).pk > third


def test_ids_of_deleted_rows_are_not_used_again(thread: Thread) -> None:
    """The ETag of a run is made of its primary key and version, so a used key could repeat an old ETag."""
    run = Run.objects.create(**run_row(thread, 0, id=None))
    pk = run.pk
    run.delete()
    assert reserve_ids(Run, 1)[0] > pk
