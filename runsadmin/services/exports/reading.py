"""Reads the runs of an export in chunks, newest first. No query or transaction is open between chunks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import batched
from typing import Any

from django.db.models import QuerySet

from runsadmin import keyset
from runsadmin.services.run_search import RunSearch
from runsadmin.services.search_time_limit import limited

# The first chunk is small, so that the first byte is sent soon.
FIRST, CHUNK = 100, 1000
# In seconds. A search that finds its first chunk in time is never refused later: other chunks may take this long.
LONGEST_CHUNK = 600.0


@dataclass(frozen=True)
class Selection:
    """The runs of an export: those that match a search, or those with these primary keys."""

    search: RunSearch
    keys: Sequence[int] | None = None


def chunks(selection: Selection, rows: QuerySet[Any], *, seconds: float | None = None) -> Iterator[list[Any]]:
    """The rows of the selected runs, as they are when their chunk is read. Empty chunks are left out.

    Raises InvalidSearch if the first chunk takes longer than `seconds` (see `search_time_limit.limited`).
    """
    if selection.keys is not None:
        for some in batched(selection.keys, CHUNK, strict=False):
            if found := list(rows.filter(pk__in=some).order_by("-created_at", "-pk")):
                yield found
        return
    after: keyset.Key | None = None
    size = FIRST
    while True:
        with limited(seconds if after is None else LONGEST_CHUNK):
            page = selection.search.read_page(rows, size, after=after)
        if page.rows:
            yield page.rows
        if page.next is None:
            return
        after, size = page.next, CHUNK
