"""Runs in the order of their tokens. Those whose usage is unknown come last, in either direction."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.db.models import Q, QuerySet

from runsadmin import keyset
from runsadmin.models import Run

ORDER: keyset.Order = ("total_tokens", "pk")

_IS_KNOWN, _IS_UNKNOWN = Q(total_tokens__isnull=False), Q(total_tokens__isnull=True)


@dataclass(frozen=True)
class Reading:
    """Which keys are read: `count` of them after a key. `ascending` is the direction of reading."""

    count: int
    after: keyset.Key | None
    ascending: bool
    is_backward: bool

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

    def _sort_key(self, key: keyset.Key) -> tuple[bool, int, int]:
        tokens, pk = key
        sign = 1 if self.ascending else -1
        return (tokens is None) != self.is_backward, sign * (tokens or 0), sign * pk

    def _parts(self) -> Iterator[Q]:
        """The conditions of the runs after the key, those with and those without tokens, in the order of reading."""
        parts = [(False, _IS_KNOWN, ORDER), (True, _IS_UNKNOWN, ORDER[1:])]
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
        """Without tokens, this is the order of the primary key alone."""
        return runs.order_by(*(field if self.ascending else f"-{field}" for field in ORDER)).values_list(*ORDER)

    def _until(self, last: keyset.Key) -> Q:
        sign = "lte" if self.ascending else "gte"
        tokens, pk = last
        return Q(**{f"pk__{sign}": pk}) if tokens is None else Q(**{f"total_tokens__{sign}": tokens})
