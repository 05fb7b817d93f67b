"""Lookups for search fields and suggestions. Each reads a bounded part of an index."""

from django.db.models import Model, QuerySet

from runsadmin.metadata import MAX_KEY_LENGTH
from runsadmin.models import Run, Thread
from runsadmin.services.metadata_keys import Texts

# If more ids share a prefix, the prefix is too short to be useful.
MAX_MATCHES = 500
MAX_SUGGESTED = 300


def find_runs(queryset: QuerySet[Run], term: str) -> QuerySet[Run]:
    """Filters runs by run id, thread id or assistant id. A prefix of a run id or thread id is enough.

    If very many ids share a prefix, the first 500 in id order are used.
    """
    term = term.strip()
    if not term:
        return queryset
    if found := find_by_prefix(Run.objects.all(), term):
        return queryset.filter(pk__in=found)
    if found := find_by_prefix(Thread.objects.all(), term):
        return queryset.filter(thread__in=found)
    return queryset.filter(assistant_id=term)


def find_by_prefix[M: Model](rows: QuerySet[M], term: str, *, limit: int = MAX_MATCHES) -> list[int]:
    """The primary keys of the rows whose id has this prefix. Uses an index, since these columns sort by byte."""
    found = rows.filter(upstream_id__gte=term, upstream_id__lt=term + "\U0010ffff")
    return list(found.order_by("upstream_id").values_list("pk", flat=True)[:limit])


def observed_keys() -> list[str]:
    """Metadata keys to suggest. Keys that are too long, which lax servers allow, are left out."""
    return [key for key in Texts().first(MAX_SUGGESTED) if len(key) <= MAX_KEY_LENGTH]
