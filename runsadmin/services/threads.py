"""Which threads are mirrored."""

from collections.abc import Iterable
from dataclasses import dataclass

from django.contrib.auth.models import User
from django.db import transaction

from runsadmin import conf
from runsadmin.errors import InvalidId
from runsadmin.models import Thread
from runsadmin.services import connections, permissions
from runsadmin.upstream.client import check_id


@dataclass(frozen=True)
class Tracked:
    """What became of the ids that were given: every one is in exactly one of these."""

    added: tuple[str, ...]
    already: tuple[str, ...]
    invalid: tuple[str, ...]


def track(*, connection: str, thread_ids: Iterable[str], actor: User) -> Tracked:
    """Tracks threads from now on, or again. Raises NotAllowed, UnknownConnection. Ids that cannot be are told."""
    permissions.require(actor, permissions.Action.TRACK_THREADS)
    conf.connection(connection)
    wanted = dict.fromkeys(thread_ids)
    invalid = [thread_id for thread_id in wanted if not _is_id(thread_id)]
    valid = [thread_id for thread_id in wanted if thread_id not in set(invalid)]
    with transaction.atomic():
        known = Thread.objects.filter(connection=connection, upstream_id__in=valid)
        already = set(known.filter(tracked=True).values_list("upstream_id", flat=True))
        Thread.objects.bulk_create(
            [Thread(connection=connection, upstream_id=thread_id) for thread_id in valid], ignore_conflicts=True
        )
        Thread.objects.filter(connection=connection, upstream_id__in=valid, tracked=False).update(tracked=True)
    added = [thread_id for thread_id in valid if thread_id not in already]
    return Tracked(tuple(added), tuple(t for t in valid if t in already), tuple(invalid))


def untrack(*, thread: Thread, actor: User) -> None:
    """Stops reading a thread. Its runs stay. Raises NotAllowed."""
    permissions.require(actor, permissions.Action.UNTRACK_THREADS)
    Thread.objects.filter(pk=thread.pk).update(tracked=False)


def listed_upstream(*, connection: str) -> list[str]:
    """The ids of all threads of a connection that can list them.

    Raises UpstreamError: NotFound or Rejected where it cannot.
    """
    client = connections.client(connection)
    found: dict[str, None] = {}
    while True:
        connections.wait_for_places(connection, 1)
        page = client.list_threads(after=next(reversed(found), "")).value
        before = len(found)
        found.update(dict.fromkeys(page))
        if len(found) == before:
            return list(found)


def _is_id(value: str) -> bool:
    try:
        check_id(value)
    except InvalidId:
        return False
    return True
