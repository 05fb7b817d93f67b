"""Keyset pagination: a page starts after a row's key. Without OFFSET and count, the last page is as fast as the first.

An order is a tuple of field names, at most one time followed by the primary key (`("created_at", "id")` or `("id",)`).
Rows are read in descending order, newest first, unless `ascending` is set. A key has a row's values of these fields.
"""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db.models import Model, Q, QuerySet

type Order = tuple[str, ...]
type Key = tuple[Any, ...]


@dataclass(frozen=True)
class Page[R]:
    """Rows in the order of the list, and the keys of the adjacent pages: None if there is no such page.

    After the first page there is always a previous one, which may be empty if rows were deleted.
    """

    rows: list[R]
    previous: Key | None
    next: Key | None


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
    return page_of(found[:size], order, has_more=len(found) > size, is_backward=is_backward, is_first=after is None)


def page_of[R](rows: list[R], order: Order, *, has_more: bool, is_backward: bool, is_first: bool) -> Page[R]:
    """The page with these rows, in the order in which they were read."""
    if is_backward:
        rows.reverse()
    if not rows:
        return Page([], None, None)
    has_previous, has_next = (has_more, True) if is_backward else (not is_first, has_more)
    return Page(
        rows,
        key_of(rows[0], order) if has_previous else None,
        key_of(rows[-1], order) if has_next else None,
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


def key_of(row: object, order: Order) -> Key:
    return tuple(getattr(row, field) for field in order)


def to_text(key: Key) -> str:
    """A key for a URL: `2026-01-01T00:00:00+00:00,17`."""
    return ",".join(value.isoformat() if isinstance(value, dt.datetime) else str(value) for value in key)


def from_text(text: str, order: Order) -> Key:
    """Raises ValueError for text that is not a key of this order."""
    *times, number = text.split(",")
    if len(times) + 1 != len(order) or not (number.isascii() and number.isdecimal()) or int(number) >= 2**63:
        raise ValueError(f"{text!r} is not a key.")
    try:
        moments = [dt.datetime.fromisoformat(time) for time in times]
        if any(moment.tzinfo is None for moment in moments):
            raise ValueError("The time has no zone.")
        return (*(moment.astimezone(dt.UTC) for moment in moments), int(number))
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r} is not a key.") from error
