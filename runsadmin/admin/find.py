"""Finds runs by ids, each time through an index and never in more than a bounded part of it."""

from django.db.models import Model, QuerySet

from runsadmin.models import Run, Thread

# A beginning that more ids share is too short to be meant.
MOST = 500


def find_runs(queryset: QuerySet[Run], term: str) -> QuerySet[Run]:
    """Narrows to the runs with this id, thread or assistant; of the first two, the beginning is enough.

    Of a beginning that very many ids share, the first 500 in the order of ids are taken.
    """
    term = term.strip()
    if not term:
        return queryset
    if found := beginning(Run.objects.all(), term):
        return queryset.filter(pk__in=found)
    if found := beginning(Thread.objects.all(), term):
        return queryset.filter(thread__in=found)
    return queryset.filter(assistant_id=term)


def beginning[M: Model](rows: QuerySet[M], term: str) -> list[int]:
    """The keys of the rows whose id begins like this: a range of the index, since these columns sort by byte."""
    found = rows.filter(upstream_id__gte=term, upstream_id__lt=term + "\U0010ffff")
    return list(found.order_by("upstream_id").values_list("pk", flat=True)[:MOST])
