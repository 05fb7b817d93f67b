"""Finds runs by id, always through an index and always within a bounded part of it."""

from django.db import connection
from django.db.models import Model, QuerySet

from runsadmin.metadata import MAX_KEY_LENGTH
from runsadmin.models import MetadataPair, Run, Thread

# A prefix that more ids than this share is too short to be useful.
MOST = 500


def find_runs(queryset: QuerySet[Run], term: str) -> QuerySet[Run]:
    """Narrows to the runs with this run id, thread id or assistant id. For the first two a prefix is enough.

    If very many ids share a prefix, the first 500 in id order are used.
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
    """Whether `find_runs` leaves out some of the matching ids."""
    for rows in (Run.objects.all(), Thread.objects.all()):
        if found := beginning(rows, term.strip(), most=MOST + 1):
            return len(found) > MOST
    return False


def beginning[M: Model](rows: QuerySet[M], term: str, *, most: int = MOST) -> list[int]:
    """The keys of the rows whose id has this prefix: an index range, since these columns sort by byte."""
    found = rows.filter(upstream_id__gte=term, upstream_id__lt=term + "\U0010ffff")
    return list(found.order_by("upstream_id").values_list("pk", flat=True)[:most])


def observed_keys(most: int = 300) -> list[str]:
    """The first metadata keys in use, sorted: one index lookup per key, however many runs there are.

    They are offered as suggestions, so overlong ones from lax servers are left out.
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
