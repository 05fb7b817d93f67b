"""Starts, pauses and cancels passes, and finds those that need a worker."""

import datetime as dt

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import Q

from runsadmin import conf
from runsadmin.errors import InvalidTransition
from runsadmin.models import Sync, SyncStatus, Thread
from runsadmin.models.sync import UNFINISHED
from runsadmin.services import clock, connections, permissions

# A task for a waiting sync has this long to start before another one is enqueued.
HEAD_START = dt.timedelta(seconds=10)


def start(*, connection: str, kind: Sync.Kind, actor: User | None, thread: Thread | None = None) -> Sync:
    """Queues a pass, or returns the one of this kind that is already queued or running.

    No `actor` means that the schedule started it. Raises NotAllowed, UnknownConnection.
    """
    if actor is not None:
        permissions.require(actor, permissions.Action.SYNC)
    conf.connection(connection)
    count = 1 if thread else Thread.objects.filter(connection=connection, tracked=True).count()
    try:
        with transaction.atomic():
            return Sync.objects.create(
                connection=connection, kind=kind, actor=actor, thread=thread, threads_total=count
            )
    except IntegrityError:
        return Sync.objects.get(connection=connection, kind=kind, thread=thread, status__in=UNFINISHED)


def start_due() -> list[Sync]:
    """Queues the due passes of every connection that is not held."""
    now = clock.now()
    started = []
    for alias in connections.available_aliases():
        threads = Thread.objects.filter(connection=alias, tracked=True)
        if not threads.exists():
            continue
        never_or_long_ago = Q(fully_checked_at=None) | Q(fully_checked_at__lt=now - conf.full_sync_every())
        passes = Sync.objects.filter(connection=alias, thread=None)
        if (
            threads.filter(never_or_long_ago).exists()
            and not passes.filter(kind=Sync.Kind.FULL, created_at__gte=now - conf.full_sync_every()).exists()
        ):
            started.append(start(connection=alias, kind=Sync.Kind.FULL, actor=None))
        elif not passes.filter(created_at__gte=now - conf.sync_every()).exists():
            started.append(start(connection=alias, kind=Sync.Kind.INCREMENTAL, actor=None))
    return started


def cancel(*, sync: Sync, actor: User) -> Sync:
    """Cancels a pass. What it has read stays. Raises NotAllowed, InvalidTransition."""
    permissions.require(actor, permissions.Action.SYNC)
    detail = f"{actor.get_username()} cancelled it."
    return _move(sync, SyncStatus.CANCELLED, detail, finished_at=clock.now(), reading="")


def pause(*, sync: Sync, actor: User) -> Sync:
    """Pauses a pass. `resume` continues it from there. Raises NotAllowed, InvalidTransition."""
    permissions.require(actor, permissions.Action.SYNC)
    return _move(sync, SyncStatus.PAUSED, f"{actor.get_username()} paused it.")


def resume(*, sync: Sync, actor: User) -> Sync:
    """Resumes a paused pass. Raises NotAllowed, InvalidTransition."""
    permissions.require(actor, permissions.Action.SYNC)
    return _move(sync, SyncStatus.RUNNING, "", claim_token=None, claimed_until=None)


def _move(sync: Sync, status: SyncStatus, detail: str, **values: object) -> Sync:
    moved = Sync.objects.filter(pk=sync.pk).transition_to(status, detail=detail, **values)
    sync = Sync.objects.get(pk=sync.pk)
    if not moved:
        raise InvalidTransition(f"This sync is {sync.get_status_display().lower()}, so this is not possible now.")
    return sync


def claim_waiting() -> list[int]:
    """The passes that have work but no worker. Each is returned once per HEAD_START, so that tasks do not pile up."""
    now = clock.now()
    # Without a token, `claimed_until` says until when another task is expected to continue the pass.
    waiting = Sync.objects.free(now).filter(
        Q(claimed_until=None) | Q(claimed_until__lt=now),
        status__in=(SyncStatus.QUEUED, SyncStatus.RUNNING),
        connection__in=connections.available_aliases(),
    )
    return [
        pk
        for pk in waiting.order_by("pk").values_list("pk", flat=True)
        if waiting.filter(pk=pk).update(claimed_until=now + HEAD_START, claim_token=None)
    ]
