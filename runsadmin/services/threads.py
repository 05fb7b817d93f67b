"""Tracking: which threads are mirrored."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import batched

from django.contrib.auth.models import User
from django.db import transaction

from runsadmin import conf
from runsadmin.ids import is_id
from runsadmin.models import Thread
from runsadmin.services import connections, gateway, permissions

_BATCH = 500


@dataclass(frozen=True)
class Tracked:
    """The result of `track`: every id is in exactly one of the lists. `duplicates` is how many were repetitions."""

    added: tuple[str, ...]
    already: tuple[str, ...]
    invalid: tuple[str, ...]
    duplicates: int = 0


def track(*, connection: str, thread_ids: Iterable[str], actor: User) -> Tracked:
    """Tracks threads, including ones that were untracked.

    Raises NotAllowed, UnknownConnection or ReadOnlyConnection.
    """
    permissions.require(actor, permissions.Action.TRACK_THREADS)
    conf.upstream(connection)
    given = list(thread_ids)
    distinct = dict.fromkeys(given)
    valid = dict.fromkeys(thread_id for thread_id in distinct if is_id(thread_id))
    already: set[str] = set()
    with transaction.atomic():
        for some in batched(valid, _BATCH, strict=False):
            rows = Thread.objects.filter(connection=connection, upstream_id__in=some)
            known = dict(rows.values_list("upstream_id", "tracked"))
            already.update(thread_id for thread_id, is_tracked in known.items() if is_tracked)
            new = [Thread(connection=connection, upstream_id=thread_id) for thread_id in some if thread_id not in known]
            Thread.objects.bulk_create(new, ignore_conflicts=True)
            rows.filter(tracked=False).update(tracked=True)
    return Tracked(
        added=tuple(thread_id for thread_id in valid if thread_id not in already),
        already=tuple(thread_id for thread_id in valid if thread_id in already),
        invalid=tuple(thread_id for thread_id in distinct if thread_id not in valid),
        duplicates=len(given) - len(distinct),
    )


def untrack(*, thread: Thread, actor: User) -> None:
    """Stops tracking a thread. Its runs stay. Raises NotAllowed."""
    permissions.require(actor, permissions.Action.UNTRACK_THREADS)
    Thread.objects.filter(pk=thread.pk).update(tracked=False)


def listed_upstream(*, connection: str) -> list[str]:
    """The ids of all threads of a connection that can list them, including those that `track` rejects.

    Raises UpstreamError: NotFound or Rejected if it cannot list them.
    """
    found: dict[str, None] = {}
    while True:
        connections.wait_for_slots(conf.upstream(connection), 1)
        page = gateway.fetch_thread_ids(connection, after=next(filter(is_id, reversed(found)), ""))
        before = len(found)
        found.update(dict.fromkeys(page))
        if len(found) == before:
            return list(found)
