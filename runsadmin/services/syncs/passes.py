"""Starts, pauses, resumes and cancels passes, and works on them thread by thread."""

import datetime as dt
import uuid
from contextlib import suppress
from threading import Event

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import F, Q

from runsadmin import conf
from runsadmin.db_errors import is_database_failure
from runsadmin.errors import ConnectionHeld, NoSlot
from runsadmin.models import Sync, SyncStatus, Thread
from runsadmin.models.sync import UNFINISHED
from runsadmin.services import clock, connections, permissions
from runsadmin.services.syncs.claimed import LEASE, ClaimedSync, Interrupted, TimeUp, described, logger
from runsadmin.services.syncs.reading import read_thread

# How many processes may die while they read a thread.
MAX_ATTEMPTS = 3
# A thread that takes longer than this, and is not read to its end, gets a sync of its own: at most this many at once.
LONG = dt.timedelta(seconds=60)
MAX_SPLIT_OFF = 10
# The columns that say where to continue, at the beginning of a thread.
NOWHERE: dict[str, object] = {"cursor": "", "first_run": "", "oldest_first": False, "reading": ""}
# A task for a waiting sync has this long to start before another one is enqueued.
HEAD_START = dt.timedelta(seconds=10)

_POSSIBLE_ACTIONS = {
    SyncStatus.QUEUED: ("cancel",),
    SyncStatus.RUNNING: ("pause", "cancel"),
    SyncStatus.PAUSED: ("resume", "cancel"),
}


def start(*, connection: str, kind: Sync.Kind, actor: User | None, thread: Thread | None = None) -> Sync:
    """Queues a pass, or returns the one of this kind that has not ended: it may be paused.

    No `actor` means that the schedule started it. Raises NotAllowed, UnknownConnection or ReadOnlyConnection.
    """
    if actor is not None:
        permissions.require(actor, permissions.Action.SYNC)
    conf.upstream(connection)
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


def possible_actions(sync: Sync) -> tuple[str, ...]:
    """What the state of the sync allows now, regardless of the actor."""
    possible = _POSSIBLE_ACTIONS.get(SyncStatus(sync.status), ())
    return tuple(action for action in possible if action == "cancel") if wait_of(sync) else possible


def wait_of(sync: Sync) -> str:
    """Why an unfinished sync waits, as a sentence, if its connection has no upstream. Otherwise empty."""
    what = connections.missing_upstream(sync.connection) if sync.status in UNFINISHED else ""
    return f"Waits for {what}." if what else ""


def cancel(*, sync: Sync, actor: User) -> Sync:
    """Cancels a pass. What it has read stays in the mirror. Raises NotAllowed or InvalidTransition."""
    permissions.require(actor, permissions.Action.SYNC)
    return Sync.objects.move(
        sync,
        SyncStatus.CANCELLED,
        "Only an unfinished sync can be cancelled",
        detail=f"{actor.get_username()} cancelled it.",
        finished_at=clock.now(),
        reading="",
    )


def pause(*, sync: Sync, actor: User) -> Sync:
    """Pauses a pass. `resume` continues it from there. Raises NotAllowed or InvalidTransition."""
    permissions.require(actor, permissions.Action.SYNC)
    detail = f"{actor.get_username()} paused it."
    return Sync.objects.move(sync, SyncStatus.PAUSED, "Only a running sync can be paused", detail=detail)


def resume(*, sync: Sync, actor: User) -> Sync:
    """Resumes a paused pass. Raises NotAllowed, InvalidTransition, UnknownConnection or ReadOnlyConnection."""
    permissions.require(actor, permissions.Action.SYNC)
    conf.upstream(sync.connection)
    return Sync.objects.filter(status=SyncStatus.PAUSED).move(
        sync, SyncStatus.RUNNING, "Only a paused sync can be resumed", detail="", claim_token=None, claimed_until=None
    )


def claim_waiting() -> list[int]:
    """The passes that have work but no worker.

    Returns each at most once per HEAD_START, so that tasks do not pile up.
    """
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


# --- Working on a pass


def run(sync: Sync, *, until: float, stopping: Event | None = None, splits_off: bool = False) -> Sync:
    """Works on a pass, for at least one page, until `time.monotonic()` reaches `until` or `stopping` is set.

    Does nothing while another process works on it, or while its connection has no upstream. Returns the updated sync:
    if it is still running, there is more to do. With `splits_off`, a thread that takes long gets a sync of its own, so
    that it does not keep the pass from reading the other threads.
    """
    if wait_of(sync):
        return Sync.objects.get(pk=sync.pk)
    token, now = uuid.uuid4(), clock.now()
    free = Sync.objects.free(now).filter(pk=sync.pk)
    with transaction.atomic():
        free.filter(status=SyncStatus.QUEUED).transition_to(SyncStatus.RUNNING, started_at=now)
        is_claimed = free.filter(status=SyncStatus.RUNNING).update(
            claim_token=token, claimed_until=now + LEASE, detail="", attempts=F("attempts") + 1
        )
    if is_claimed:
        claimed = ClaimedSync(Sync.objects.select_related("thread").get(pk=sync.pk), token, until, stopping)
        try:
            _read_threads(claimed, splits_off=splits_off)
        except Exception as error:
            if is_database_failure(error):  # Another call continues the pass.
                raise
            logger.exception("Sync %s failed with an internal error.", sync.pk)
            detail = f"It failed with an internal error. {described(error)}"
            claimed.row.transition_to(SyncStatus.FAILED, detail=detail, finished_at=clock.now(), reading="")
        finally:
            claimed.row.update(claim_token=None, claimed_until=clock.now() + claimed.retry_after, attempts=0)
    return Sync.objects.get(pk=sync.pk)


def _read_threads(claimed: ClaimedSync, *, splits_off: bool) -> None:
    sync = claimed.sync
    try:
        if claimed.is_full and sync.thread_id is None and not (sync.last_thread or sync.cursor):
            claimed.remember(oldest_first=False)  # Try newest first again: the server may have been fixed.
        while (thread := _next_thread(claimed)) is not None:
            if sync.attempts > MAX_ATTEMPTS:
                claimed.thread = thread
                claimed.record_error(f"{MAX_ATTEMPTS} processes died while they read this thread, so it was left out.")
            else:
                read_thread(claimed, thread)
            claimed.note({"threads_done": 1}, last_thread=thread.pk, attempts=1, **NOWHERE)
            claimed.check_time()
        claimed.write()
        _finish(claimed)
    except TimeUp:
        if splits_off and _takes_long(claimed):
            _split_off(claimed)
    except Interrupted:
        logger.info("Sync %s was interrupted.", sync.pk)
    except ConnectionHeld as error:  # Every thread would fail. The pass continues once the connection is released.
        claimed.row.update(detail=f"Waiting for the connection: {error}")
    except NoSlot as error:  # The pass continues as soon as the connection has a free slot.
        claimed.retry_after = dt.timedelta(seconds=error.retry_after or 0)


def _takes_long(claimed: ClaimedSync) -> bool:
    """Whether the pass was interrupted in the middle of a thread that it began to read long ago."""
    sync = claimed.sync
    if sync.thread_id is not None or sync.last_thread == claimed.thread.pk:
        return False
    split_off = Sync.objects.filter(connection=sync.connection, status__in=UNFINISHED).exclude(thread=None)
    return clock.now() - claimed.reading.began_at > LONG and split_off.count() < MAX_SPLIT_OFF


def _split_off(claimed: ClaimedSync) -> None:
    """Continues the current thread in a sync of its own. The pass goes on with the next thread."""
    sync, thread = claimed.sync, claimed.thread
    logger.info("Sync %s leaves the thread %s to a sync of its own, because it takes long.", sync.pk, thread)
    with suppress(IntegrityError), transaction.atomic():  # It may have a sync of its own already.
        Sync.objects.create(
            connection=sync.connection, kind=sync.kind, actor=sync.actor, thread=thread, threads_total=1,
            reading=claimed.reading.dump(), **claimed.position,
        )  # fmt: skip
    with suppress(Interrupted):
        claimed.note({"threads_done": 1}, last_thread=thread.pk, attempts=1, **NOWHERE)
        claimed.write()


def _next_thread(claimed: ClaimedSync) -> Thread | None:
    sync = claimed.sync
    if sync.thread_id is not None:
        return sync.thread if sync.last_thread < sync.thread_id else None
    threads = Thread.objects.filter(connection=sync.connection, tracked=True, pk__gt=sync.last_thread)
    return threads.order_by("pk").first()


def _finish(claimed: ClaimedSync) -> None:
    sync = Sync.objects.get(pk=claimed.sync.pk)
    if not sync.errors_count:
        status = SyncStatus.COMPLETED
    elif sync.errors.values("thread").distinct().count() >= sync.threads_total > 0 and not sync.runs_seen:
        status = SyncStatus.FAILED
    else:
        status = SyncStatus.COMPLETED_WITH_ERRORS
    claimed.row.transition_to(status, detail="", finished_at=clock.now())
