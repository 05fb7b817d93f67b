"""Chooses how to read the runs of a search, and reads them in the order of a list."""

import datetime as dt
import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice
from typing import Self, cast

from django.db.models import Q, QuerySet
from django.utils import timezone

from runsadmin import keyset, search
from runsadmin.models import Run
from runsadmin.models.run import RunQuerySet
from runsadmin.search import And, Node, Or, Term
from runsadmin.search.compiling import bounds, column_of
from runsadmin.services.run_search import by_tokens
from runsadmin.services.run_search.sources import MAX_COUNTED, Source, cover
from runsadmin.services.run_search.time_limit import limited

ORDER: keyset.Order = ("created_at", "pk")

type Key = tuple[dt.datetime, int]


class Sort(StrEnum):
    """The order of a list. Runs of which the tokens are unknown come last."""

    NEWEST = "-created_at"
    OLDEST = "created_at"
    MOST_TOKENS = "-total_tokens"
    FEWEST_TOKENS = "total_tokens"

    @property
    def is_ascending(self) -> bool:
        return not self.startswith("-")

    @property
    def is_by_tokens(self) -> bool:
        return self in (Sort.MOST_TOKENS, Sort.FEWEST_TOKENS)

    @property
    def order(self) -> keyset.Order:
        return by_tokens.ORDER if self.is_by_tokens else ORDER


@dataclass(frozen=True)
class RunSearch:
    """A search, with the time zone of its times and the current time. Without a node it finds every run."""

    node: Node | None
    tz: dt.tzinfo
    now: dt.datetime

    @classmethod
    def parse(cls, text: str, tz: dt.tzinfo = dt.UTC, now: dt.datetime | None = None) -> Self:
        """Raises InvalidSearch."""
        return cls(search.parse(text), tz, timezone.now() if now is None else now)

    def narrowed(self, nodes: Sequence[Node | None]) -> Self:
        """The same search among the runs that match all of these nodes."""
        used = [node for node in (self.node, *nodes) if node is not None]
        return replace(self, node=search.all_of(used) if used else None)

    def condition(self) -> Q:
        """The condition on a run. Use it for few runs, since the database chooses the index."""
        return Q() if self.node is None else self._condition(self.node)

    def matching(self) -> RunQuerySet:
        """All runs that match, in no order."""
        if self.node is None:
            return Run.objects.all()
        found = cover(self.node, Q())
        rows = Run.objects.all() if found is None else Run.objects.filter(found.runs())
        is_exact = found is not None and found.is_exact
        runs = Source(rows).matching(None if is_exact else self.node, self._condition)
        return cast("RunQuerySet", runs)

    def count(self, most: int) -> int:
        """The number of matching runs. Counting stops at `most` + 1. Raises InvalidSearch if it takes too long."""
        with limited():
            return self.matching().order_by()[: most + 1].count()

    def read_page(
        self,
        runs: QuerySet[Run],
        size: int,
        *,
        after: keyset.Key | None = None,
        before: keyset.Key | None = None,
        sort: Sort = Sort.NEWEST,
    ) -> keyset.Page[Run]:
        """A page of the matching runs, like that of `keyset.read_page`.

        `runs` determines which columns and annotations are read. Raises InvalidSearch if it takes too long.
        """
        is_backward = before is not None
        if self.node is None and not sort.is_by_tokens:
            return keyset.read_page(runs, ORDER, size, after=after, before=before, ascending=sort.is_ascending)
        key, ascending = before if is_backward else after, sort.is_ascending != is_backward
        with limited():
            if sort.is_by_tokens:
                found = by_tokens.keys(self._to_sort(), size + 1, key, ascending=ascending, is_backward=is_backward)
            else:
                assert self.node is not None
                found = self._keys(self.node, size + 1, key, ascending)
            keys = list(islice(found, size + 1))  # An OR finds up to that many for each of its parts.
            key_of = {key[-1]: key for key in keys[:size]}
            by_key = {run.pk: run for run in runs.filter(pk__in=key_of).order_by()}
        return keyset.page_of(
            [by_key[pk] for pk in key_of if pk in by_key],
            lambda run: key_of[run.pk],
            has_more=len(keys) > size,
            is_backward=is_backward,
            is_first=after is None,
        )

    def _to_sort(self) -> RunQuerySet:
        """All matching runs, to be sorted by a column with an index: the few in a small index range, or the index."""
        if self.node is None:
            return Run.objects.all()
        found = cover(self.node, Q())
        if found is not None and found.size <= MAX_COUNTED:
            rows, is_exact = Run.objects.filter(found.runs()), found.is_exact
        else:
            parts = self.node.nodes if isinstance(self.node, And) else (self.node,)
            of_tokens = [part for part in parts if isinstance(part, Term) and column_of(part.field) == "total_tokens"]
            rows, is_exact = Run.objects.filter(*map(self._condition, of_tokens)), False
        return cast("RunQuerySet", Source(rows).matching(None if is_exact else self.node, self._condition))

    # --- The keys of a page

    def _keys(
        self, node: Node, count: int, after: keyset.Key | None, ascending: bool, *, may_distribute: bool = True
    ) -> Iterator[Key]:
        """The keys of the first runs in the order of the list."""
        if isinstance(node, Or):
            return self._merged(node.nodes, count, after, ascending, may_distribute=may_distribute)
        parts = node.nodes if isinstance(node, And) else (node,)
        within = bounds(parts, self.tz, self.now)
        chosen = self._chosen(parts, within)
        if (
            chosen is None
            and may_distribute
            and (either := next((part for part in parts if isinstance(part, Or)), None))
        ):
            others = [part for part in parts if part is not either]
            branches = [search.all_of((each, *others)) for each in either.nodes]
            return self._merged(branches, count, after, ascending, may_distribute=False)
        part, source = chosen or (None, Source(Run.objects.filter(within)))
        rest = [each for each in parts if each is not part]
        rows = source.matching(search.all_of(rest) if rest else None, self._condition)
        if after is not None:
            rows = rows.filter(keyset.is_after(source.order, after, ascending=ascending))
        ordered_rows = rows.order_by(*(field if ascending else f"-{field}" for field in source.order))
        return iter(ordered_rows.values_list(*source.order)[:count])

    def _chosen(self, parts: Sequence[Node], within: Q) -> tuple[Node | None, Source] | None:
        """The source for runs that match all parts, and the part that needs no further test, if any.

        None if no index range is small or has an order.
        """
        covers = [(part, found) for part in parts if (found := cover(part, within)) is not None]
        if len(covers) != 1 or not covers[0][1].is_ordered:  # Otherwise there is nothing to compare.
            small = [each for each in covers if each[1].size <= MAX_COUNTED]
            ordered = [each for each in covers if each[1].is_ordered]
            if small:
                covers = [min(small, key=lambda each: each[1].size)]
            elif ordered:
                covers = [min(ordered, key=lambda each: each[1].density)]
            else:
                return None
        part, chosen = covers[0]
        source = chosen.sources[0] if chosen.is_ordered else Source(Run.objects.filter(chosen.runs(), within))
        return part if chosen.is_exact else None, source

    def _merged(
        self, nodes: Sequence[Node], count: int, after: keyset.Key | None, ascending: bool, *, may_distribute: bool
    ) -> Iterator[Key]:
        found = [self._keys(node, count, after, ascending, may_distribute=may_distribute) for node in nodes]
        last: Key | None = None
        for key in heapq.merge(*found, reverse=not ascending):
            if key != last:
                last = key
                yield key

    def _condition(self, node: Node, **names: str) -> Q:
        return search.condition(node, self.tz, self.now, **names)
