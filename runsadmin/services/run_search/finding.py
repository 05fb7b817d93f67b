"""Chooses how to read the runs of a search, and reads them in the order of a list."""

import datetime as dt
import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import batched, chain, groupby, islice
from typing import Self, cast

from django.db.models import Q, QuerySet
from django.utils import timezone

from runsadmin import keyset, search
from runsadmin.models import MetadataPair, Run
from runsadmin.models.run import RunQuerySet
from runsadmin.search import And, Node, Not, Or, Term
from runsadmin.search.compiling import bounds, column_of
from runsadmin.services.run_search import by_number, merging, sources
from runsadmin.services.run_search.choosing import (
    MAX_BRANCHES,
    Driver,
    branches_of,
    driver_of,
    parts_of,
    tests_all_runs,
    to_distribute,
)
from runsadmin.services.run_search.expanding import expanded
from runsadmin.services.run_search.merging import Ranges, Span
from runsadmin.services.run_search.sources import Cover, Source, cover
from runsadmin.services.search_time_limit import limited

ORDER: keyset.Order = ("created_at", "pk")
# Limits of sorting by a number: how many runs are tested in index order, and how many are found first and then sorted.
MAX_WALKED = 20_000
MAX_SORTED = 10_000

type Key = tuple[dt.datetime, int]

ANY_TIME = Q()


class Sort(StrEnum):
    """The order of a list. Runs whose tokens or duration are unknown come last."""

    NEWEST = "-created_at"
    OLDEST = "created_at"
    MOST_TOKENS = "-total_tokens"
    FEWEST_TOKENS = "total_tokens"
    LONGEST = "-duration"
    SHORTEST = "duration"

    @property
    def is_ascending(self) -> bool:
        return not self.startswith("-")

    @property
    def column(self) -> str:
        return self.removeprefix("-")

    @property
    def is_by_number(self) -> bool:
        return self.column in by_number.COLUMNS

    @property
    def order(self) -> keyset.Order:
        return (self.column, "pk")


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

    def count(self, limit: int) -> int:
        """The number of matching runs. Counting stops at `limit` + 1. Raises InvalidSearch if it takes too long."""
        with limited():
            return self.matching().order_by()[: limit + 1].count()

    def newest(self, limit: int) -> list[int]:
        """The primary keys of the newest matching runs. Raises InvalidSearch if finding them takes too long."""
        with limited():
            if self.node is None:
                return list(Run.objects.order_by("-created_at", "-pk").values_list("pk", flat=True)[:limit])
            return [pk for _, pk in islice(self._keys(expanded(self.node), Span(limit, None, ascending=False)), limit)]

    def matching_keys(self, keys: Iterable[int]) -> set[int]:
        """Which of the runs with these primary keys exist and match. Raises InvalidSearch if it takes too long."""
        parts = [] if self.node is None else [self.node]
        found: set[int] = set()
        with limited():
            for some in batched(keys, 1000, strict=False):
                tested = self._testing(Source(Run.objects.filter(pk__in=some)), parts).rows
                found.update(tested.order_by().values_list("pk", flat=True))
        return found

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
        if self.node is None and not sort.is_by_number:
            return keyset.read_page(runs, ORDER, size, after=after, before=before, ascending=sort.is_ascending)
        key, ascending = before if is_backward else after, sort.is_ascending != is_backward
        with limited():
            node = None if self.node is None else expanded(self.node)
            if sort.is_by_number:
                reading = by_number.Reading(sort.column, size + 1, key, ascending, is_backward)
                found = iter(replace(self, node=node)._by_number(reading))
            else:
                assert node is not None
                found = self._keys(node, Span(size + 1, key, ascending))
            keys = list(islice(found, size + 1))  # Each part of an OR may find this many keys.
            key_of = {key[-1]: key for key in keys[:size]}
            by_key = {run.pk: run for run in runs.filter(pk__in=key_of).order_by()}
        return keyset.page_of(
            [by_key[pk] for pk in key_of if pk in by_key],
            lambda run: key_of[run.pk],
            has_more=len(keys) > size,
            is_backward=is_backward,
            is_first=after is None,
        )

    def _by_number(self, reading: by_number.Reading) -> list[keyset.Key]:
        """Sorts the runs if few match. Otherwise walks the index, unless too few of its first runs match."""
        if self.node is None:
            return reading.walk(Run.objects.all(), Run.objects.all()) or []
        parts = self.node.nodes if isinstance(self.node, And) else (self.node,)
        covers = [(part, found) for part in parts if (found := cover(part, Q())) is not None]
        if small := [each for each in covers if each[1].size <= sources.MAX_COUNTED]:
            part, found = min(small, key=lambda each: each[1].size)
            tested = [each for each in parts if each is not part or not found.is_exact]
            return reading.sort(self._numbers_of(found, tested, reading.order))
        of_number = [part for part in parts if isinstance(part, Term) and column_of(part.field) == reading.column]
        runs = Run.objects.filter(*map(self._condition, of_number))
        matching = self._testing(Source(runs), [self.node]).rows
        if (keys := reading.walk(runs, matching, MAX_WALKED)) is not None:
            return keys
        newest = [pk for _, pk in self._keys(self.node, Span(MAX_SORTED + 1, None, ascending=False))]
        if len(newest) > MAX_SORTED:
            return reading.walk(runs, matching) or []
        return reading.sort(self._numbers(newest, (), reading.order))

    def _numbers_of(self, found: Cover, tested: Sequence[Node], order: keyset.Order) -> set[keyset.Key]:
        """The keys of those runs of a small cover that match."""
        if not tested:
            paths = {Run: order[0], MetadataPair: f"run__{order[0]}"}
            lists = [each.rows.order_by().values_list(paths[each.rows.model], each.run) for each in found.sources]
            return set(chain.from_iterable(lists))
        return set(self._numbers(found.keys(), tested, order))

    def _numbers(self, keys: Iterable[int], tested: Sequence[Node], order: keyset.Order) -> Iterator[keyset.Key]:
        """The values of `order` for those runs with these primary keys that match."""
        for some in batched(keys, 1000, strict=False):
            yield from self._testing(Source(Run.objects.filter(pk__in=some)), tested).rows.values_list(*order)

    # --- The keys of a page

    def _keys(
        self,
        node: Node,
        span: Span,
        *,
        limit: Q = ANY_TIME,
        branches: int = MAX_BRANCHES,
    ) -> Iterator[Key]:
        """The first keys in a span. `limit` is a condition on the creation time of the runs."""
        parts = parts_of(node)
        if len(parts) == 1 and isinstance(parts[0], Or) and len(nodes := branches_of(parts[0])) > 1:
            return self._merged(nodes, span, limit, branches)
        bounded = bounds(parts, self.tz, self.now)
        within = bounded & limit
        newest = Source(Run.objects.filter(within))
        covers = {part: found for part in parts if (found := cover(part, within)) is not None}
        excluded = {part: found for part in parts if isinstance(part, Not) and (found := cover(part.node, within))}
        driver = driver_of(covers, newest if bounded else None, compares=len(covers) + len(excluded) > 1)
        if either := to_distribute(parts, covers, driver, branches, within):
            others = [part for part in parts if part is not either]
            nodes = [search.all_of((each, *others)) for each in branches_of(either)]
            return self._merged(nodes, span, limit, branches // len(nodes))
        driver = driver or Driver(newest)
        tested = [part for part in parts if part is not driver.part]
        ranges = [] if driver.is_small else merging.ranges(tested, covers | excluded)
        left = [part for part in tested if part not in {each.part for each in ranges}]
        in_index = [part for part in left if merging.is_in_newest(part)]
        source = driver.source
        if not driver.is_small and in_index and driver.part is not None:
            ranges.append(Ranges(search.all_of(in_index), (self._testing(newest, in_index),)))
        elif ranges:
            source = self._testing(source, in_index)
        if not ranges:
            return iter(span.keys(self._testing(source, tested))[: span.count])
        tested_last = [part for part in left if part not in in_index]
        return merging.read_keys(
            source, ranges, span, self._condition(search.all_of(tested_last)) if tested_last else None
        )

    def _testing(self, source: Source, parts: Sequence[Node]) -> Source:
        """The rows of a source whose runs match all of these parts."""
        return replace(source, rows=source.matching(search.all_of(parts) if parts else None, self._condition))

    def _merged(self, nodes: Sequence[Node], span: Span, limit: Q, branches: int) -> Iterator[Key]:
        """The first keys of all of these nodes. The keys of the first nodes limit how far the others are read."""
        keys: list[Key] = []
        for node in sorted(nodes, key=tests_all_runs):
            found = self._keys(node, span, limit=limit, branches=branches)
            merged = heapq.merge(keys, found, reverse=not span.ascending)
            keys = list(islice((key for key, _ in groupby(merged)), span.count))
            if len(keys) == span.count:
                limit = Q(**{f"created_at__{'lte' if span.ascending else 'gte'}": keys[-1][0]})
        return iter(keys)

    def _condition(self, node: Node, **names: str) -> Q:
        return search.condition(node, self.tz, self.now, **names)
