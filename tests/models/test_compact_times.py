"""Times that SQLite stores as integers behave like Django's own."""

import datetime as dt

import pytest
from django.db import connection
from django.db.models import F, Max, Min, Q

from runsadmin.models import Run, Thread

pytestmark = pytest.mark.django_db

START = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
TIMES = [
    dt.datetime(1, 1, 1, tzinfo=dt.UTC),
    dt.datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=dt.UTC),
    START,
    START + dt.timedelta(microseconds=1),
    START + dt.timedelta(seconds=1),
    dt.datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=dt.UTC),
]


@pytest.fixture(autouse=True)
def runs() -> list[Run]:
    """One run for each of TIMES, in another order. Half of them have no time of completion."""
    thread = Thread.objects.create(connection="default", upstream_id="thread_a", listed_from=START)
    return Run.objects.bulk_create(
        Run(
            connection="default", upstream_id=f"run_{number}", thread=thread, status="completed", raw="{}", digest="",
            created_at=TIMES[number], completed_at=TIMES[number] if number % 2 else None,
            requested_at=START, received_at=START,
        )
        for number in (3, 0, 5, 1, 4, 2)
    )  # fmt: skip


def found(condition: Q) -> list[dt.datetime]:
    return list(Run.objects.filter(condition).order_by("created_at").values_list("created_at", flat=True))


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (Q(), TIMES),
        (Q(created_at=START), TIMES[2:3]),
        (Q(created_at=START.astimezone(dt.timezone(dt.timedelta(hours=-8)))), TIMES[2:3]),
        (Q(created_at__gt=START), TIMES[3:]),
        (Q(created_at__gte=START), TIMES[2:]),
        (Q(created_at__lt=START), TIMES[:2]),
        (Q(created_at__lte=TIMES[1]), TIMES[:2]),
        (Q(created_at__in=[TIMES[0], TIMES[5]]), [TIMES[0], TIMES[5]]),
        (Q(created_at__range=(TIMES[1], TIMES[3])), TIMES[1:4]),
        (Q(completed_at__isnull=True), TIMES[0::2]),
        (Q(completed_at=F("created_at")), TIMES[1::2]),
        (Q(created_at__gte=F("thread__listed_from")), TIMES[2:]),
        (~Q(created_at=START), [*TIMES[:2], *TIMES[3:]]),
    ],
)
def test_lookups_find_times(condition: Q, expected: list[dt.datetime]) -> None:
    assert found(condition) == expected


def test_times_are_read_as_written() -> None:
    assert [run.created_at for run in Run.objects.order_by("-created_at")] == TIMES[::-1]
    assert Run.objects.aggregate(first=Min("created_at"), last=Max("created_at")) == {
        "first": TIMES[0],
        "last": TIMES[-1],
    }
    Run.objects.filter(created_at=START).update(completed_at=F("created_at"), started_at=None)
    assert Run.objects.get(created_at=START).completed_at == START
    assert Run.objects.get(created_at=START).started_at is None


def test_sqlite_stores_integers() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT created_at FROM runsadmin_run WHERE upstream_id = 'run_4'")
        (stored,) = cursor.fetchone()
    assert stored == (1_772_366_401_000_000 if connection.vendor == "sqlite" else TIMES[4])
