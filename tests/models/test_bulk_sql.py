"""One statement reads many rows by their ids, or updates many rows, each with its own values."""

import datetime as dt

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from runsadmin.models import Run, Thread
from runsadmin.models.bulk_insert import insert_rows, reserve_ids
from runsadmin.models.bulk_sql import Row, select_rows, update_rows

pytestmark = pytest.mark.django_db

NOON = dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC)


@pytest.fixture
def threads() -> list[Thread]:
    return [Thread.objects.create(connection="default", upstream_id=f"thread_{number}") for number in range(3)]


def watermarks() -> list[str]:
    return list(Thread.objects.order_by("pk").values_list("watermark", flat=True))


def test_each_row_gets_its_values(threads: list[Thread]) -> None:
    rows = [({"watermark": f"run_{thread.pk}", "checked_at": NOON}, {"id": thread.pk}) for thread in threads]
    with CaptureQueriesContext(connection) as queries:
        assert sorted(update_rows(Thread, rows)) == [thread.pk for thread in threads]
    assert len(queries) == 1
    assert watermarks() == [f"run_{thread.pk}" for thread in threads]
    assert set(Thread.objects.values_list("checked_at", flat=True)) == {NOON}


def test_rows_with_other_values_are_not_updated(threads: list[Thread]) -> None:
    """The values that identify a row are conditions, so that a worker that has lost its claim changes nothing."""
    first, second, _ = threads
    rows = [
        ({"watermark": "a"}, {"id": first.pk, "watermark": ""}),
        ({"watermark": "b"}, {"id": second.pk, "watermark": "other"}),
    ]
    assert update_rows(Thread, rows) == [first.pk]
    assert watermarks() == ["a", "", ""]


def test_null_can_be_written(threads: list[Thread]) -> None:
    Thread.objects.update(checked_at=NOON)
    assert update_rows(Thread, [({"checked_at": None, "tracked": False}, {"id": threads[0].pk})]) == [threads[0].pk]
    assert list(Thread.objects.order_by("pk").values_list("checked_at", "tracked")) == [
        (None, False), (NOON, True), (NOON, True),
    ]  # fmt: skip


def test_rows_may_set_different_fields(threads: list[Thread]) -> None:
    first, second, third = ({"id": thread.pk} for thread in threads)
    rows: list[Row] = [({"watermark": "a"}, first), ({"tracked": False}, second), ({"watermark": "c"}, third)]
    assert sorted(update_rows(Thread, rows)) == [thread.pk for thread in threads]
    assert watermarks() == ["a", "", "c"]
    assert list(Thread.objects.order_by("pk").values_list("tracked", flat=True)) == [True, False, True]


def test_values_are_bound_parameters(threads: list[Thread]) -> None:
    text = "'); DELETE FROM runsadmin_thread; -- %s"
    assert len(update_rows(Thread, [({"watermark": text}, {"id": thread.pk}) for thread in threads])) == 3
    assert watermarks() == [text] * 3


def test_rows_are_read_by_their_ids(threads: list[Thread]) -> None:
    Thread.objects.create(connection="other", upstream_id="thread_0")
    ids = {"thread_0", "thread_2", "thread_9"}
    assert sorted(select_rows(Thread, ["upstream_id", "id"], connection="default", upstream_ids=ids)) == [
        ("thread_0", threads[0].pk),
        ("thread_2", threads[2].pk),
    ]
    assert select_rows(Thread, ["id"], connection="default", upstream_ids=()) == []


def test_ids_may_have_any_character() -> None:
    ids = ["NULL", "a,b", "{a}", 'a"b', "a'b", "a\\b", "a b", "%s", "😀", ""]
    Thread.objects.bulk_create(Thread(connection="default", upstream_id=id) for id in ids)
    assert sorted(select_rows(Thread, ["upstream_id"], connection="default", upstream_ids=ids)) == sorted(zip(ids))


@pytest.mark.only_on("postgresql")
@pytest.mark.parametrize("known", ["nothing", "other connections", "all"])
def test_only_the_runs_with_these_ids_are_read(threads: list[Thread], known: str) -> None:
    """The index of the ids is used whatever the statistics are: they may be old or missing."""
    common = {
        "connection": "default", "thread_id": threads[0].pk, "status": "completed", "created_at": NOON, "raw": "{}",
        "digest": "", "requested_at": NOON, "received_at": NOON,
    }  # fmt: skip
    others = [common | {"id": id, "upstream_id": f"r{id}", "connection": "eu"} for id in reserve_ids(Run, 1000)]
    runs = [common | {"id": id, "upstream_id": f"run_{id}"} for id in reserve_ids(Run, 3000)]
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM pg_statistic WHERE starelid = 'runsadmin_run'::regclass")
        if known == "other connections":
            insert_rows(Run, others)
            cursor.execute("ANALYZE runsadmin_run")
        insert_rows(Run, runs)
        if known == "all":
            cursor.execute("ANALYZE runsadmin_run")
    with CaptureQueriesContext(connection) as queries:
        select_rows(Run, ["digest"], connection="default", upstream_ids=[f"run_{n}" for n in range(100)])
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {queries[0]['sql']}")
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "Index Scan using run_once_per_connection" in plan
    assert "run_by_connection" not in plan
