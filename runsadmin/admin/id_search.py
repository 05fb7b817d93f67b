"""Finds runs by ids, each time through an index and never in more than a bounded part of it."""

from django.db import connection
from django.db.models import Model, QuerySet

from runsadmin.metadata import MAX_KEY_LENGTH
from runsadmin.models import MetadataPair, Run, Thread

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


def leaves_some_out(term: str) -> bool:
    """Whether `find_runs` takes only the first of those that are meant."""
    for rows in (Run.objects.all(), Thread.objects.all()):
        if found := beginning(rows, term.strip(), most=MOST + 1):
            return len(found) > MOST
    return False


def beginning[M: Model](rows: QuerySet[M], term: str, *, most: int = MOST) -> list[int]:
    """The keys of the rows whose id begins like this: a range of the index, since these columns sort by byte."""
    found = rows.filter(upstream_id__gte=term, upstream_id__lt=term + "\U0010ffff")
    return list(found.order_by("upstream_id").values_list("pk", flat=True)[:most])


def observed_keys(most: int = 300) -> list[str]:
    """Keys of metadata that are in use, the first in their order: a jump through the index for each, however many runs.

    They are to be offered and typed: long ones from lax servers are left out.
    """
    table = connection.ops.quote_name(MetadataPair._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH RECURSIVE known(key) AS (SELECT min(key) FROM {table} UNION ALL SELECT"  # noqa: S608 - the model's.
            f" (SELECT min(key) FROM {table} WHERE key > known.key) FROM known WHERE known.key IS NOT NULL)"
            " SELECT key FROM known WHERE key IS NOT NULL LIMIT %s",
            [most],
        )
        return [key for (key,) in cursor.fetchall() if len(key) <= MAX_KEY_LENGTH]
