"""Keyset pagination: no page repeats or skips a row, in either direction."""

import datetime as dt
from itertools import pairwise

import pytest

from runsadmin import keyset
from runsadmin.models import Thread

pytestmark = pytest.mark.django_db

BY_TIME = ("created_at", "id")
BY_TOKENS = ("total_tokens", "id")
BY_DURATION = ("duration", "id")
NOON = dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC)


@pytest.fixture
def ids() -> list[int]:
    """The primary keys of seven threads, newest first; three of them were created in the same second."""
    for number, second in enumerate((0, 1, 1, 1, 2, 3, 4)):
        thread = Thread.objects.create(connection="default", upstream_id=f"thread_{number}")
        Thread.objects.filter(pk=thread.pk).update(created_at=NOON + dt.timedelta(seconds=second))
    return list(Thread.objects.order_by("-created_at", "-id").values_list("pk", flat=True))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8])
@pytest.mark.parametrize("order", [BY_TIME, ("id",)])
def test_pages_cover_all_rows_once(ids: list[int], order: keyset.Order, size: int) -> None:
    pages = [keyset.read_page(Thread.objects.all(), order, size)]
    while pages[-1].next is not None:
        pages.append(keyset.read_page(Thread.objects.all(), order, size, after=pages[-1].next))
    assert [row.pk for page in pages for row in page.rows] == ids
    assert pages[0].previous is None
    for page, following in pairwise(pages):
        assert following.previous is not None
        preceding = keyset.read_page(Thread.objects.all(), order, size, before=following.previous)
        assert (preceding.rows, preceding.next) == (page.rows, page.next)


def test_pages_can_be_ascending(ids: list[int]) -> None:
    first = keyset.read_page(Thread.objects.all(), BY_TIME, 4, ascending=True)
    rest = keyset.read_page(Thread.objects.all(), BY_TIME, 4, after=first.next, ascending=True)
    assert [row.pk for row in (*first.rows, *rest.rows)] == ids[::-1]


def test_page_after_the_last_row_is_empty(ids: list[int]) -> None:
    assert keyset.read_page(Thread.objects.all(), ("id",), 5, after=(0,)).rows == []


@pytest.mark.parametrize("size", [1, 3, 7, 8])
def test_chunks_cover_all_rows_once(ids: list[int], size: int) -> None:
    chunks = list(keyset.read_chunks(Thread.objects.all(), size))
    assert [row.pk for chunk in chunks for row in chunk] == sorted(ids)
    assert all(chunks)


def test_empty_table_has_no_chunks() -> None:
    assert list(keyset.read_chunks(Thread.objects.all(), 3)) == []


@pytest.mark.parametrize(
    ("key", "order"),
    [
        ((NOON, 17), BY_TIME),
        ((17,), ("id",)),
        ((5, 17), BY_TOKENS),
        ((None, 17), BY_TOKENS),
        ((dt.timedelta(hours=1, microseconds=1), 17), BY_DURATION),
        ((None, 17), BY_DURATION),
    ],
)
def test_key_survives_as_text(key: keyset.Key, order: keyset.Order) -> None:
    assert keyset.from_text(keyset.to_text(key), order) == key


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("", ("id",)),
        ("17", BY_TIME),
        ("2026-05-01T12:00:00+00:00,17", ("id",)),
        ("2026-05-01T12:00:00,17", BY_TIME),
        ("yesterday,17", BY_TIME),
        ("0001-01-01T00:00:00+23:00,17", BY_TIME),
        ("2026-05-01T12:00:00+00:00,17", BY_TOKENS),
        ("17,17", BY_TIME),
        (",", BY_TOKENS),
        ("1:00:00,17", BY_DURATION),
        ("-1", ("id",)),
        ("²", ("id",)),
        (str(2**63), ("id",)),
    ],
)
def test_invalid_text_is_not_a_key(text: str, order: keyset.Order) -> None:
    with pytest.raises(ValueError, match="is not a key"):
        keyset.from_text(text, order)
