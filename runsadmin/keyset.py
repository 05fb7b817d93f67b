"""Keyset pagination: a page starts after a row's key. Without OFFSET and count, the last page is as fast as the first.

An order is a tuple of field names: at most one time, duration or number, then the primary key (`("created_at", "id")`).
Rows are read in descending order, newest first, unless `ascending` is set. A key is a row's values of these fields.
"""

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from django.db.models import Model, Q, QuerySet

type Order = tuple[str, ...]
type Key = tuple[Any, ...]

_MICROSECOND = dt.timedelta(microseconds=1)


@dataclass(frozen=True)
class Page[R]:
    """Rows in the order of the list, and the keys of the adjacent pages: None if there is no such page.

    After the first page there is always a previous one, which may be empty if rows were deleted.
    """

    rows: list[R]
    previous: Key | None
    next: Key | None
    key: Callable[[R], Key]
    is_backward: bool = False  # Whether the rows were read in reverse, the last one first.

    def first_read(self, count: int) -> "Page[R]":
        """The page with only the `count` rows that were read first. The others move to the adjacent page."""
        if count >= len(self.rows):
            return self
        if self.is_backward:
            rows = self.rows[-count:]
            return replace(self, rows=rows, previous=self.key(rows[0]))
        rows = self.rows[:count]
        return replace(self, rows=rows, next=self.key(rows[-1]))


def read_page[M: Model](
    rows: QuerySet[M],
    order: Order,
    size: int,
    *,
    after: Key | None = None,
    before: Key | None = None,
    ascending: bool = False,
) -> Page[M]:
    """The page that follows `after` or precedes `before`. Without either, the first page.

    Reads one row more than `size` to know whether there are more.
    """
    is_backward = before is not None
    key = before if is_backward else after
    reads_upward = ascending != is_backward
    if key is not None:
        rows = rows.filter(is_after(order, key, ascending=reads_upward))
    found = list(rows.order_by(*(field if reads_upward else f"-{field}" for field in order))[: size + 1])
    return page_of(
        found[:size], partial(key_of, order), has_more=len(found) > size, is_backward=is_backward,
        is_first=after is None,
    )  # fmt: skip


def page_of[R](rows: list[R], key: Callable[[R], Key], *, has_more: bool, is_backward: bool, is_first: bool) -> Page[R]:
    """The page with these rows, in the order in which they were read. `key` returns the key of a row."""
    if is_backward:
        rows.reverse()
    if not rows:
        return Page([], None, None, key, is_backward)
    has_previous, has_next = (has_more, True) if is_backward else (not is_first, has_more)
    return Page(
        rows,
        key(rows[0]) if has_previous else None,
        key(rows[-1]) if has_next else None,
        key,
        is_backward,
    )


def read_chunks[M: Model](rows: QuerySet[M], size: int) -> Iterator[list[M]]:
    """All rows in ascending order of their primary key. No query is open between chunks."""
    after: Key | None = None
    while True:
        page = read_page(rows, ("pk",), size, after=after, ascending=True)
        if page.rows:
            yield page.rows
        if page.next is None:
            return
        after = page.next


def is_after(order: Order, key: Key, *, ascending: bool = False) -> Q:
    """The condition that a row comes after a key.

    `time <= t AND (time < t OR pk < p)`: the first part lets the database read a range of the index, which it would not
    derive from the OR.
    """
    side = "gt" if ascending else "lt"
    if len(order) == 1:
        return Q(**{f"{order[0]}__{side}": key[0]})
    (first, last), (first_value, last_value) = order, key
    return Q(**{f"{first}__{side}e": first_value}) & (
        Q(**{f"{first}__{side}": first_value}) | Q(**{f"{last}__{side}": last_value})
    )


def key_of(order: Order, row: object) -> Key:
    return tuple(getattr(row, field) for field in order)


def to_text(key: Key) -> str:
    """A key for a URL: `2026-01-01T00:00:00+00:00,17`, `4120,17`, or `,17` if the number is None.

    A duration is a number of microseconds.
    """
    return ",".join(_as_text(value) for value in key)


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dt.timedelta):
        value //= _MICROSECOND
    return value.isoformat() if isinstance(value, dt.datetime) else str(value)


def from_text(text: str, order: Order) -> Key:
    """Raises ValueError for text that is not a key of this order."""
    *values, pk = text.split(",")
    try:
        fields = zip(order[:-1], values, strict=True)
        return (*(_read(field, value) for field, value in fields), _pk(pk))
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r} is not a key.") from error


def _read(field: str, text: str) -> Any:
    if field.endswith("_at"):
        return _time(text)
    number = _pk(text) if text else None
    return number * _MICROSECOND if field == "duration" and number is not None else number


def _time(text: str) -> dt.datetime:
    time = dt.datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("The time has no zone.")
    return time.astimezone(dt.UTC)


def _pk(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) >= 2**63:
        raise ValueError("It is not a number.")
    return int(text)
