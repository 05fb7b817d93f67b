"""Runs in the order of a number: their tokens or duration. Those without one come last, in either direction."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.db.models import Q, QuerySet

from runsadmin import keyset
from runsadmin.models import Run

# Each has an index that is also ordered by the primary key.
COLUMNS = ("total_tokens", "duration")


@dataclass(frozen=True)
class Reading:
    """Which keys are read: `count` of them after a key. `ascending` is the direction of reading."""

    column: str
    count: int
    after: keyset.Key | None
    ascending: bool
    is_backward: bool

    @property
    def order(self) -> keyset.Order:
        return (self.column, "pk")

    def sort(self, keys: Iterable[keyset.Key]) -> list[keyset.Key]:
        """The first of these keys."""
        in_order = sorted(keys, key=self._sort_key)
        if self.after is not None:
            start = self._sort_key(self.after)
            in_order = [key for key in in_order if self._sort_key(key) > start]
        return in_order[: self.count]

    def walk(self, runs: QuerySet[Run], matching: QuerySet[Run], limit: int | None = None) -> list[keyset.Key] | None:
        """The first keys of the matching runs, in the order of the index. `runs` includes the matching ones.

        None if the first `limit` of `runs` do not have enough keys.
        """
        found: list[keyset.Key] = []
        for part in self._parts():
            rows = self._in_order(matching.filter(part))
            last = None if limit is None else self._in_order(runs.filter(part))[limit : limit + 1].first()
            if last is not None:
                rows = self._in_order(matching.filter(part, self._until(last)))
            found += rows[: self.count - len(found)]
            if len(found) == self.count:
                break
            if last is not None:
                return None
        return found

    def _sort_key(self, key: keyset.Key) -> tuple[bool, Any, int]:
        number, pk = key
        sign = 1 if self.ascending else -1
        return (number is None) != self.is_backward, 0 if number is None else sign * number, sign * pk

    def _parts(self) -> Iterator[Q]:
        """The conditions of the runs after the key, those with and those without a number, in the order of reading."""
        is_known, is_unknown = (Q(**{f"{self.column}__isnull": is_null}) for is_null in (False, True))
        parts = [(False, is_known, self.order), (True, is_unknown, self.order[1:])]
        if self.is_backward:
            parts.reverse()
        if self.after is None:
            yield from (condition for _, condition, _ in parts)
            return
        if parts[0][0] != (self.after[0] is None):
            parts = parts[1:]
        (_, first, order), *others = parts
        yield first & keyset.is_after(order, self.after[-len(order) :], ascending=self.ascending)
        yield from (condition for _, condition, _ in others)

    def _in_order(self, runs: QuerySet[Run]) -> QuerySet[Any, Any]:
        """Without a number, this is the order of the primary key alone."""
        fields = (field if self.ascending else f"-{field}" for field in self.order)
        return runs.order_by(*fields).values_list(*self.order)

    def _until(self, last: keyset.Key) -> Q:
        sign = "lte" if self.ascending else "gte"
        number, pk = last
        return Q(**{f"pk__{sign}": pk}) if number is None else Q(**{f"{self.column}__{sign}": number})
