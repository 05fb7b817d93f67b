"""Passes over threads that read runs into the mirror.

A pass pages through every thread newest first. *Incremental* stops at the thread's watermark and then reads the runs
that were still active; *full* reads all. The row holds the place to resume, written with every page, so a pass that
was cut off goes on where it was. One bad thread or run never stops a pass, and is told.
"""

import datetime as dt
import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from threading import Event

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import F, Q
from django.db.models.functions import Greatest

from runsadmin import conf
from runsadmin.errors import Busy, Forbidden, Held, IllegalChange, NotFound, NotSent, UpstreamError
from runsadmin.models import Run, Sync, SyncError, SyncStatus, Thread
from runsadmin.models.run import ACTIVE
from runsadmin.models.sync import UNFINISHED, SyncQuerySet
from runsadmin.services import clock, connections, permissions, runs
from runsadmin.services.runs import Seen
from runsadmin.upstream.client import PAGE_SIZE, Answer, Page

logger = logging.getLogger(__name__)

TRIES = 3
CLAIM = dt.timedelta(seconds=60)
# A task that was enqueued for a waiting sync has this long to begin before another one is enqueued.
HEAD_START = dt.timedelta(seconds=10)
MAX_ERRORS_KEPT = 1000


def start(*, connection: str, kind: Sync.Kind, actor: User | None, thread: Thread | None = None) -> Sync:
    """Queues a pass, or returns the one of this kind that is already queued or under way.

    Without an `actor` it is the schedule's. Raises NotAllowed, UnknownConnection.
    """
    if actor is not None:
        permissions.require(actor, permissions.Action.SYNC)
    conf.connection(connection)
    threads = Thread.objects.filter(connection=connection, tracked=True) if thread is None else [thread]
    try:
        with transaction.atomic():
            return Sync.objects.create(
                connection=connection, kind=kind, actor=actor, thread=thread, threads_total=len(threads)
            )
    except IntegrityError:
        return Sync.objects.get(connection=connection, kind=kind, thread=thread, status__in=UNFINISHED)


def start_due() -> list[Sync]:
    """Queues the passes whose time has come, for every connection that is not held."""
    now = clock.now()
    started = []
    for alias in connections.open_aliases():
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
    """Stops a pass. What it has read stays. Raises NotAllowed, IllegalChange."""
    permissions.require(actor, permissions.Action.SYNC)
    return _move(sync, SyncStatus.CANCELLED, f"{actor.get_username()} stopped it.", finished_at=clock.now())


def pause(*, sync: Sync, actor: User) -> Sync:
    """Lets a pass rest; it goes on where it was. Raises NotAllowed, IllegalChange."""
    permissions.require(actor, permissions.Action.SYNC)
    return _move(sync, SyncStatus.PAUSED, f"{actor.get_username()} paused it.")


def resume(*, sync: Sync, actor: User) -> Sync:
    permissions.require(actor, permissions.Action.SYNC)
    return _move(sync, SyncStatus.RUNNING, "", claim_token=None, claimed_until=None)


def _move(sync: Sync, status: SyncStatus, detail: str, **values: object) -> Sync:
    moved = Sync.objects.filter(pk=sync.pk).change_to(status, detail=detail, **values)
    sync = Sync.objects.get(pk=sync.pk)
    if not moved:
        raise IllegalChange(f"This sync is {sync.get_status_display().lower()}, so that cannot be done now.")
    return sync


def take_waiting() -> list[int]:
    """The passes that have work and no worker. Each is handed out once in a while, so that tasks do not pile up."""
    now = clock.now()
    free = Q(claimed_until=None) | Q(claimed_until__lt=now)
    waiting = Sync.objects.filter(
        free, status__in=(SyncStatus.QUEUED, SyncStatus.RUNNING), connection__in=connections.open_aliases()
    )
    return [
        pk
        for pk in waiting.order_by("pk").values_list("pk", flat=True)
        if waiting.filter(pk=pk).update(claimed_until=now + HEAD_START, claim_token=None)
    ]


def run(sync: Sync, *, until: float, stopping: Event | None = None) -> Sync:
    """Does a share of a pass, until `time.monotonic()` reaches `until`, or `stopping` is set, and a thread is finished.

    Does nothing when another process is at it. Returns the sync as it is then: it has more to do while it is running.
    """
    token, now = uuid.uuid4(), clock.now()
    free = Q(claim_token=None) | Q(claimed_until__lt=now)
    row = Sync.objects.filter(free, pk=sync.pk, status__in=(SyncStatus.QUEUED, SyncStatus.RUNNING))
    with transaction.atomic():
        Sync.objects.filter(pk=sync.pk, status=SyncStatus.QUEUED).filter(free).change_to(
            SyncStatus.RUNNING, started_at=now
        )
        claimed = row.update(claim_token=token, claimed_until=now + CLAIM, detail="")
    if claimed:
        share = _Share(Sync.objects.select_related("thread").get(pk=sync.pk), token)
        try:
            _read_threads(share, until, stopping)
        finally:
            share.row.update(claim_token=None, claimed_until=clock.now() + share.rest)
    return Sync.objects.get(pk=sync.pk)


class _Interrupted(Exception):
    """Somebody paused or cancelled the pass, or the claim went to another process."""


@dataclass
class _Share:
    sync: Sync
    token: uuid.UUID
    rest: dt.timedelta = dt.timedelta()

    @property
    def row(self) -> SyncQuerySet:
        return Sync.objects.filter(pk=self.sync.pk, claim_token=self.token)

    def write(self, **values: object) -> None:
        """Renews the claim with every word of progress. Raises _Interrupted."""
        if not self.row.filter(status=SyncStatus.RUNNING).update(claimed_until=clock.now() + CLAIM, **values):
            raise _Interrupted

    def tell(self, message: str, *, thread: Thread | None = None, run_id: str = "") -> None:
        self.write(errors_count=F("errors_count") + 1)
        if SyncError.objects.filter(sync=self.sync).count() < MAX_ERRORS_KEPT:
            SyncError.objects.create(sync=self.sync, thread=thread, run_id=run_id[:128], message=message[:2000])


def _read_threads(share: _Share, until: float, stopping: Event | None) -> None:
    sync = share.sync
    try:
        while True:
            thread = _next_thread(share)
            if thread is None:
                return _finish(share)
            _read_thread(share, thread)
            share.write(
                reached=thread.pk,
                after="",
                after_first="",
                threads_done=F("threads_done") + 1,
                threads_total=Greatest(F("threads_total"), F("threads_done") + 1),
            )
            if time.monotonic() >= until or (stopping is not None and stopping.is_set()):
                return None
    except _Interrupted:
        logger.info("Sync %s was interrupted.", sync.pk)
    except (
        Held,
        Forbidden,
    ) as error:  # Every thread would answer the same: it goes on by itself when the connection is mended.
        share.row.update(detail=f"Waiting for the connection: {error}")
    except Busy as error:  # It goes on where it is as soon as the connection has a place again.
        share.rest = dt.timedelta(seconds=error.retry_after or 0)


def _next_thread(share: _Share) -> Thread | None:
    sync = Sync.objects.get(pk=share.sync.pk)
    if sync.thread_id is not None:
        return share.sync.thread if sync.reached < sync.thread_id else None
    threads = Thread.objects.filter(connection=sync.connection, tracked=True, pk__gt=sync.reached)
    return threads.order_by("pk").first()


def _finish(share: _Share) -> None:
    sync = Sync.objects.get(pk=share.sync.pk)
    if not sync.errors_count:
        status = SyncStatus.COMPLETED
    elif sync.errors.values("thread").distinct().count() >= sync.threads_total > 0 and not sync.runs_seen:
        status = SyncStatus.FAILED
    else:
        status = SyncStatus.COMPLETED_WITH_ERRORS
    share.row.change_to(status, detail="", finished_at=clock.now())


@dataclass
class _Progress:
    """What was seen of one thread: for the watermark, and for what is missing afterwards."""

    began_at: dt.datetime
    from_the_start: bool
    first: str
    ids: set[str] = field(default_factory=set)
    reached_watermark: bool = False


def _read_thread(share: _Share, thread: Thread) -> None:
    """Reads a thread's pages and then what they did not show. Errors are told; only Held and Busy go up."""
    sync = Sync.objects.get(pk=share.sync.pk)
    progress = _Progress(began_at=clock.now(), from_the_start=not sync.after, first=sync.after_first)
    try:
        try:
            _read_pages(share, thread, progress, after=sync.after)
            _read_the_rest(share, thread, progress)
        except NotFound as error:
            _tell_missing(share, thread, error)
    except (Held, Forbidden, Busy):
        raise
    except UpstreamError as error:
        share.tell(f"Not all of this thread was read: {error}", thread=thread)


def _tell_missing(share: _Share, thread: Thread, error: NotFound) -> None:
    """Raises UpstreamError when it could not be found out what the 404 means."""
    if connections.answers_for_a_known_run(thread.connection, apart_from=Run(thread=thread)):
        Thread.objects.filter(pk=thread.pk, missing_since=None).update(missing_since=clock.now())
        share.tell(f"Upstream no longer has this thread: {error}", thread=thread)
    else:
        share.tell(f"The server answers 404, and no other thread is known to tell why: {error}", thread=thread)


def _read_pages(share: _Share, thread: Thread, progress: _Progress, *, after: str) -> None:
    client = connections.client(thread.connection)
    while True:
        seen = _with_patience(thread.connection, partial(client.list_runs, thread.upstream_id, after=after))
        page = seen.answer.value
        new = [run_id for run_id in page.ids if run_id not in progress.ids]
        _step(share, "page answered")
        stored = runs.store(thread, page.records, asked_at=seen.asked_at, answered_at=seen.answered_at)
        _step(share, "page stored")
        progress.ids.update(new)
        progress.first = progress.first or next(iter(new), "")
        after = new[-1] if new else after
        share.write(
            after=after,
            after_first=progress.first,
            pages=F("pages") + 1,
            runs_seen=F("runs_seen") + len(new),
            runs_created=F("runs_created") + stored.created,
            runs_updated=F("runs_updated") + stored.updated,
        )
        for message in page.unreadable:
            share.tell(message, thread=thread)
        if share.sync.kind == Sync.Kind.INCREMENTAL and thread.watermark and thread.watermark in new:
            progress.reached_watermark = True
            return
        if _is_last(page, new):
            return


def _step(share: _Share, step: str) -> None:
    logger.debug("Sync %s: %s.", share.sync.pk, step, extra={"sync": share.sync.pk, "step": step})


def _is_last(page: Page, new: list[str]) -> bool:
    """Whether a list ends here. `has_more` lies both ways on some servers: a full page without it proves nothing."""
    return not new or (not page.has_more and len(page.ids) < PAGE_SIZE)


def _read_the_rest(share: _Share, thread: Thread, progress: _Progress) -> None:
    """After the last page: runs that were still active and not shown, and, when all was read, those that are gone."""
    read_all = progress.from_the_start and not progress.reached_watermark
    known = Run.objects.filter(thread=thread, missing_since=None, answered_at__lt=progress.began_at)
    unseen = known if read_all else known.filter(status__in=ACTIVE)
    for run in unseen.select_related("thread").defer("raw").iterator():
        if run.upstream_id in progress.ids:
            continue
        try:
            stored = runs.store_one(run, _with_patience(thread.connection, partial(runs.retrieve, run)))
            share.write(runs_updated=F("runs_updated") + stored.updated, runs_seen=F("runs_seen") + 1)
        except NotFound as error:
            if not runs.tell_missing(run, error):
                raise Held(str(error)) from error
            share.write(runs_updated=F("runs_updated") + 1)
    now = clock.now()
    checked: dict[str, object] = {"checked_at": now, "missing_since": None}
    if progress.first:
        checked["watermark"] = progress.first
    if read_all:
        checked["fully_checked_at"] = now
    Thread.objects.filter(pk=thread.pk).update(**checked)


def _with_patience[T](alias: str, call: Callable[[], Answer[T]]) -> Seen[T]:
    """Makes a call that only reads, and again after a fault that may pass. Raises UpstreamError."""
    faults = 0
    while True:
        connections.wait_for_places(alias, 1)  # Also after a 429: judge() has put the next place behind it.
        try:
            return runs.see(call)
        except UpstreamError as error:
            connections.judge(alias, error)
            faults += 1
            if not isinstance(error, NotSent) or faults == TRIES:
                raise
            if not error.slow_down:
                time.sleep(0.5 * 2**faults)
