"""Chooses how to read the runs of a search, and reads them in the order of a list."""

import datetime as dt
import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import batched, chain, islice
from typing import Self, cast

from django.db.models import Q, QuerySet
from django.utils import timezone

from runsadmin import keyset, search
from runsadmin.models import MetadataPair, Run
from runsadmin.models.run import RunQuerySet
from runsadmin.search import And, Node, Not, Or, Term
from runsadmin.search.compiling import bounds, column_of
from runsadmin.services.run_search import by_tokens, merging
from runsadmin.services.run_search.merging import Ranges
from runsadmin.services.run_search.sources import MAX_COUNTED, Cover, Source, cover
from runsadmin.services.run_search.time_limit import limited

ORDER: keyset.Order = ("created_at", "pk")
# To sort by tokens: how many runs are tested in the order of the index, and how many are found otherwise and sorted.
MAX_WALKED = 20_000
MAX_SORTED = 10_000

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
                found = iter(self._by_tokens(by_tokens.Reading(size + 1, key, ascending, is_backward)))
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

    def _by_tokens(self, reading: by_tokens.Reading) -> list[keyset.Key]:
        """Few runs are sorted. Many are found by walking the index, as long as it does not have too few of them."""
        if self.node is None:
            return reading.walk(Run.objects.all(), Run.objects.all()) or []
        parts = self.node.nodes if isinstance(self.node, And) else (self.node,)
        covers = [(part, found) for part in parts if (found := cover(part, Q())) is not None]
        if small := [each for each in covers if each[1].size <= MAX_COUNTED]:
            part, found = min(small, key=lambda each: each[1].size)
            tested = [each for each in parts if each is not part or not found.is_exact]
            return reading.sort(self._tokens_of(found, tested))
        of_tokens = [part for part in parts if isinstance(part, Term) and column_of(part.field) == "total_tokens"]
        runs = Run.objects.filter(*map(self._condition, of_tokens))
        matching = self._testing(Source(runs), [self.node]).rows
        if (keys := reading.walk(runs, matching, MAX_WALKED)) is not None:
            return keys
        newest = [pk for _, pk in islice(self._keys(self.node, MAX_SORTED + 1, None, ascending=False), MAX_SORTED + 1)]
        if len(newest) > MAX_SORTED:
            return reading.walk(runs, matching) or []
        return reading.sort(self._tokens(newest, ()))

    def _tokens_of(self, found: Cover, tested: Sequence[Node]) -> set[keyset.Key]:
        """The runs of a small cover that match, with their tokens."""
        if not tested:
            paths = {Run: "total_tokens", MetadataPair: "run__total_tokens"}
            lists = [each.rows.order_by().values_list(paths[each.rows.model], each.run) for each in found.sources]
            return set(chain.from_iterable(lists))
        keys = {pk for each in found.sources for pk in each.rows.order_by().values_list(each.run, flat=True)}
        return set(self._tokens(keys, tested))

    def _tokens(self, keys: Iterable[int], tested: Sequence[Node]) -> Iterator[keyset.Key]:
        """The runs with these primary keys that match, with their tokens.

        The keys are listed, since PostgreSQL would test all runs before it looks them up in a subquery.
        """
        for some in batched(keys, 1000, strict=False):
            yield from self._testing(Source(Run.objects.filter(pk__in=some)), tested).rows.values_list(*by_tokens.ORDER)

    # --- The keys of a page

    def _keys(
        self, node: Node, count: int, after: keyset.Key | None, ascending: bool, *, may_distribute: bool = True
    ) -> Iterator[Key]:
        """The keys of the first runs in the order of the list."""
        if isinstance(node, Or):
            return self._merged(node.nodes, count, after, ascending, may_distribute=may_distribute)
        parts = node.nodes if isinstance(node, And) else (node,)
        within = bounds(parts, self.tz, self.now)
        covers = {part: found for part in parts if (found := cover(part, within)) is not None}
        excluded = {part: found for part in parts if isinstance(part, Not) and (found := cover(part.node, within))}
        newest = Run.objects.filter(within)
        driver = _driver(covers, within, compares=len(covers) + len(excluded) > 1)
        if driver is None:
            if may_distribute and (either := next((part for part in parts if isinstance(part, Or)), None)):
                others = [part for part in parts if part is not either]
                branches = [search.all_of((each, *others)) for each in either.nodes]
                return self._merged(branches, count, after, ascending, may_distribute=False)
            driver = Driver(Source(newest))
        tested = [part for part in parts if part is not driver.part]
        ranges: list[Ranges] = []
        if not driver.is_small:
            ranges = merging.ranges(tested, covers | excluded)
            tested = [part for part in tested if part not in {each.part for each in ranges}]
            if driver.part is not None and (in_index := [part for part in tested if merging.is_in_newest(part)]):
                ranges.append(Ranges(search.all_of(in_index), (self._testing(Source(newest), in_index),)))
                tested = [part for part in tested if part not in in_index]
        return merging.read_keys(self._testing(driver.source, tested), ranges, count, after, ascending=ascending)

    def _testing(self, source: Source, parts: Sequence[Node]) -> Source:
        """The rows of a source whose runs match all of these parts."""
        return replace(source, rows=source.matching(search.all_of(parts) if parts else None, self._condition))

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


@dataclass(frozen=True)
class Driver:
    """The source whose runs are tested, and the part of the search that needs no further test, if any."""

    source: Source
    part: Node | None = None
    is_small: bool = False


def _driver(covers: Mapping[Node, Cover], within: Q, *, compares: bool) -> Driver | None:
    """The smallest source or, if all are large, an ordered one. None if no index range is small or has an order."""
    ordered = {part: found for part, found in covers.items() if found.is_ordered}
    small = {}
    if compares or not ordered:  # Otherwise there is nothing to compare.
        small = {part: found for part, found in covers.items() if found.size <= MAX_COUNTED}
    if small:
        part = min(small, key=lambda each: small[each].size)
    elif ordered:
        part = min(ordered, key=lambda each: ordered[each].density) if len(ordered) > 1 else next(iter(ordered))
    else:
        return None
    found = covers[part]
    source = found.sources[0] if found.is_ordered else Source(Run.objects.filter(found.runs(), within))
    return Driver(source, part if found.is_exact else None, is_small=bool(small))
