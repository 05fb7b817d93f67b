"""Runs in the order of their tokens. Those of which the usage is unknown come last, in either direction."""

from collections.abc import Iterator

from runsadmin import keyset
from runsadmin.models.run import RunQuerySet

ORDER: keyset.Order = ("total_tokens", "pk")


def keys(
    runs: RunQuerySet, count: int, after: keyset.Key | None, *, ascending: bool, is_backward: bool
) -> Iterator[keyset.Key]:
    """The keys of the first runs after a key. `ascending` is the direction of reading."""
    known, unknown = runs.filter(total_tokens__isnull=False), runs.filter(total_tokens__isnull=True)
    if after is None:
        parts = [known, unknown]
    elif after[0] is None:
        unknown = unknown.filter(keyset.is_after(("pk",), after[1:], ascending=ascending))
        parts = [known, unknown] if is_backward else [unknown]
    else:
        known = known.filter(keyset.is_after(ORDER, after, ascending=ascending))
        parts = [known] if is_backward else [known, unknown]
    if is_backward:
        parts.reverse()
    for part in parts:
        # Without values, this is the order of the primary key alone.
        rows = part.order_by(*(field if ascending else f"-{field}" for field in ORDER)).values_list(*ORDER)[:count]
        yield from rows
