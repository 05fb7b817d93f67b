"""Passes over threads that read runs into the mirror.

A pass pages through every thread newest first. *Incremental* stops at the thread's watermark and then reads the runs
that were still active; *full* reads all. The row holds the place to resume, written with every page, so a pass that
was cut off goes on where it was. One bad thread or run never stops a pass, and is told. What pages prove is decided in
`upstream/paging.py`.
"""

import datetime as dt
import logging
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from threading import Event

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import F, Q
from django.db.models.functions import Greatest

from runsadmin import conf
from runsadmin.errors import (
    ConnectionHeld,
    Forbidden,
    InvalidId,
    InvalidTransition,
    NoSlot,
    NotFound,
    NotSent,
    Rejected,
    RunsAdminError,
    TooLarge,
    UpstreamError,
)
from runsadmin.metadata import MetadataState
from runsadmin.models import ConnectionState, Run, Sync, SyncError, SyncStatus, Thread
from runsadmin.models.run import ACTIVE
from runsadmin.models.sync import UNFINISHED, SyncQuerySet
from runsadmin.services import clock, connections, gateway, permissions, probes, runs
from runsadmin.services.clock import ClockBounds
from runsadmin.services.gateway import TimedResponse
from runsadmin.services.runs import Difference, Stored
from runsadmin.upstream.client import PAGE_SIZE, Page
from runsadmin.upstream.paging import REPEATED, SKIPPED, Habits, Reading, ThreadReading
from runsadmin.upstream.records import RunRecord

logger = logging.getLogger(__name__)

TRIES = 3
# Seconds. Doubled after each fault.
FIRST_PAUSE = 0.5
CLAIM = dt.timedelta(seconds=60)
# A task that was enqueued for a waiting sync has this long to begin before another one is enqueued.
HEAD_START = dt.timedelta(seconds=10)
MAX_ERRORS_KEPT = 1000
MAX_FIELDS_TOLD = 50
# How servers refuse a page of more runs than they serve.
LIMIT_REFUSALS = (400, 413, 422)
# A list that is read from a replica may show a run as it was so long ago.
LIST_LAG = dt.timedelta(minutes=2)


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
    """Stops a pass. What it has read stays. Raises NotAllowed, IllegalChange."""
    permissions.require(actor, permissions.Action.SYNC)
    detail = f"{actor.get_username()} stopped it."
    return _move(sync, SyncStatus.CANCELLED, detail, finished_at=clock.now(), reading="")


def pause(*, sync: Sync, actor: User) -> Sync:
    """Lets a pass rest; it goes on where it was. Raises NotAllowed, IllegalChange."""
    permissions.require(actor, permissions.Action.SYNC)
    return _move(sync, SyncStatus.PAUSED, f"{actor.get_username()} paused it.")


def resume(*, sync: Sync, actor: User) -> Sync:
    permissions.require(actor, permissions.Action.SYNC)
    return _move(sync, SyncStatus.RUNNING, "", claim_token=None, claimed_until=None)


def _move(sync: Sync, status: SyncStatus, detail: str, **values: object) -> Sync:
    moved = Sync.objects.filter(pk=sync.pk).transition_to(status, detail=detail, **values)
    sync = Sync.objects.get(pk=sync.pk)
    if not moved:
        raise InvalidTransition(f"This sync is {sync.get_status_display().lower()}, so that cannot be done now.")
    return sync


def claim_waiting() -> list[int]:
    """The passes that have work and no worker. Each is handed out once in a while, so that tasks do not pile up."""
    now = clock.now()
    waiting = Sync.objects.free(now).filter(
        status__in=(SyncStatus.QUEUED, SyncStatus.RUNNING), connection__in=connections.available_aliases()
    )
    return [
        pk
        for pk in waiting.order_by("pk").values_list("pk", flat=True)
        if waiting.filter(pk=pk).update(claimed_until=now + HEAD_START, claim_token=None)
    ]


def run(sync: Sync, *, until: float, stopping: Event | None = None) -> Sync:
    """Does a share of a pass: a page at least, until `time.monotonic()` reaches `until` or `stopping` is set.

    Does nothing when another process is at it. Returns the sync as it is then: it has more to do while it is running.
    """
    token, now = uuid.uuid4(), clock.now()
    free = Q(claim_token=None) | Q(claimed_until__lt=now)
    row = Sync.objects.filter(free, pk=sync.pk, status__in=(SyncStatus.QUEUED, SyncStatus.RUNNING))
    with transaction.atomic():
        Sync.objects.filter(pk=sync.pk, status=SyncStatus.QUEUED).filter(free).transition_to(
            SyncStatus.RUNNING, started_at=now
        )
        claimed = row.update(claim_token=token, claimed_until=now + CLAIM, detail="")
    if claimed:
        share = _Share(Sync.objects.select_related("thread").get(pk=sync.pk), token, until, stopping)
        try:
            _read_threads(share)
        finally:
            share.row.update(claim_token=None, claimed_until=clock.now() + share.rest)
    return Sync.objects.get(pk=sync.pk)


class _Interrupted(Exception):
    """Somebody paused or cancelled the pass, or the claim went to another process."""


class _TimeIsOver(Exception):
    """The share has to end; the pass goes on in the next one."""


@dataclass
class _Share:
    sync: Sync
    token: uuid.UUID
    until: float
    stopping: Event | None
    rest: dt.timedelta = dt.timedelta()
    limit: int = PAGE_SIZE
    failures: int = 0
    unreadable_fields: set[str] = field(default_factory=set)
    connection: ConnectionState = field(init=False)

    def __post_init__(self) -> None:
        self.connection = connections.state(self.sync.connection)

    @property
    def row(self) -> SyncQuerySet:
        return Sync.objects.filter(pk=self.sync.pk, claim_token=self.token)

    @property
    def is_full(self) -> bool:
        return self.sync.kind == Sync.Kind.FULL

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self.until or (self.stopping is not None and self.stopping.is_set())

    def check_time(self) -> None:
        """Raises _TimeIsOver."""
        if self.is_over:
            raise _TimeIsOver

    def write(self, **values: object) -> None:
        """Renews the claim with every word of progress. Raises _Interrupted."""
        if not self.row.filter(status=SyncStatus.RUNNING).update(claimed_until=clock.now() + CLAIM, **values):
            raise _Interrupted

    def keep(self, reading: ThreadReading) -> None:
        """For the next share. Without it that one would not know which runs were shown before."""
        pages = reading.current
        self.row.filter(status__in=UNFINISHED).update(
            reading=reading.dump(), after=pages.after, first_run=reading.newest.first, oldest_first=pages.oldest_first
        )

    def count_failure(self, error: RunsAdminError) -> None:
        """Raises it when it seems to concern more than the run that was asked for."""
        if isinstance(error, NotSent) and not isinstance(error, TooLarge):
            self.failures += 1
            if self.failures >= TRIES:
                raise error

    def tell(self, message: str, *, thread: Thread | None = None, run_id: str = "") -> None:
        self.write(errors_count=F("errors_count") + 1)
        if SyncError.objects.filter(sync=self.sync).count() < MAX_ERRORS_KEPT:
            SyncError.objects.create(sync=self.sync, thread=thread, run_id=run_id[:128], message=message[:2000])

    def note(self, **values: object) -> None:
        """Keeps what was learned of the connection's paging."""
        if any(getattr(self.connection, name) != value for name, value in values.items()):
            ConnectionState.objects.filter(pk=self.connection.pk).update(**values)
            for name, value in values.items():
                setattr(self.connection, name, value)


def _read_threads(share: _Share) -> None:
    sync = share.sync
    try:
        if share.is_full and sync.thread_id is None and not (sync.reached or sync.after):
            share.note(oldest_first=False)  # The server may have been mended: the first long thread shows it.
        while True:
            thread = _next_thread(share)
            if thread is None:
                return _finish(share)
            _read_thread(share, thread)
            share.write(
                reached=thread.pk,
                after="",
                first_run="",
                oldest_first=False,
                reading="",
                threads_done=F("threads_done") + 1,
                threads_total=Greatest(F("threads_total"), F("threads_done") + 1),
            )
            share.check_time()
    except _TimeIsOver:
        return None
    except _Interrupted:
        logger.info("Sync %s was interrupted.", sync.pk)
    except (
        ConnectionHeld
    ) as error:  # Every thread would answer the same: it goes on by itself when the connection is mended.
        share.row.update(detail=f"Waiting for the connection: {error}")
    except NoSlot as error:  # It goes on where it is as soon as the connection has a place again.
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
    share.row.transition_to(status, detail="", finished_at=clock.now())


def _read_thread(share: _Share, thread: Thread) -> None:
    """Reads a thread's pages and then what they did not show. Errors of the thread are told."""
    reading = _resume(share)
    try:
        try:
            _read_pages(share, thread, reading)
            while _read_the_rest(share, thread, reading):
                _read_pages(share, thread, reading)
            _finish_thread(share, thread, reading)
        except NotFound as error:
            _tell_missing(share, thread, error)
    except (ConnectionHeld, NoSlot, _Interrupted, _TimeIsOver):
        share.keep(reading)
        raise
    except (UpstreamError, InvalidId) as error:
        if isinstance(error, UpstreamError) and error.is_outage and probes.ask_about(thread, error).is_outage:
            connections.store_effect(thread.connection, probes.outage(error))
            share.keep(reading)
            raise ConnectionHeld(str(error)) from error
        share.tell(f"Not all of this thread was read: {error}", thread=thread)


def _resume(share: _Share) -> ThreadReading:
    """What was read of this thread, if the pass is in the middle of it."""
    sync = Sync.objects.get(pk=share.sync.pk)
    if sync.reading:
        reading = ThreadReading.load(sync.reading)
        if (reading.current.after, reading.current.oldest_first) == (sync.after, sync.oldest_first):
            return reading
    if not sync.after or sync.oldest_first:
        return ThreadReading(began_at=clock.now())
    # A process died here. The mirror has what it read, and nobody knows which runs those were.
    known = dict.fromkeys((sync.first_run, sync.after))
    return ThreadReading(clock.now(), Reading(after=sync.after, ids=known), from_the_start=False)


def _tell_missing(share: _Share, thread: Thread, error: NotFound) -> None:
    """Raises Held when everything that is known answers 404."""
    reach = probes.ask_about(thread, error)
    if reach.is_all_gone:
        effect = probes.all_gone(thread.upstream_id, error)
        connections.store_effect(thread.connection, effect)
        raise ConnectionHeld(effect.detail)
    if reach.error is not None:
        share.tell(f"The server answers 404, and it could not be found out why: {error}", thread=thread)
    else:
        runs.mark_thread_missing(thread.pk)
        share.tell(f"Upstream no longer has this thread: {error}", thread=thread)


# --- The pages of a thread


def _read_pages(share: _Share, thread: Thread, reading: ThreadReading) -> None:
    while not reading.is_over:
        pages = reading.current
        timed = _next_page(share, thread, reading)
        progress = {} if timed is None else _take_page(share, thread, reading, timed)
        if reading.oldest is None and not reading.reached_watermark:
            is_known_to_fail = share.connection.oldest_first and not pages.ended
            if pages.doubt or is_known_to_fail:
                reading.read_oldest_first()
        current = reading.current
        share.write(**progress, after=current.after, first_run=reading.newest.first, oldest_first=current.oldest_first)
        if not reading.is_over:
            share.check_time()
    if reading.oldest is not None and reading.newest.doubt in (REPEATED, SKIPPED) and reading.is_complete:
        share.note(oldest_first=True)


def _next_page(share: _Share, thread: Thread, reading: ThreadReading) -> TimedResponse[Page] | None:
    """A page that is too large is asked for again with half the limit. None: there is no page, and a doubt says why."""
    pages = reading.current
    is_limit_refused = False
    while True:
        pages.limit = pages.limit or share.limit
        call = partial(
            gateway.fetch_page,
            thread.connection,
            thread.upstream_id,
            after=pages.after,
            limit=pages.limit,
            oldest_first=pages.oldest_first,
        )
        try:
            timed = _with_patience(thread.connection, call)
        except TooLarge as error:
            pages.too_large = str(error)
            if pages.limit > 1:
                pages.halve()
            elif pages.skip(error.first_id):
                message = f"The run {error.first_id} could not be read. {error}"
                _tell_once(share, thread, reading, message, error.first_id)
                share.write(after=pages.after)
                share.check_time()
            else:
                pages.give_up(pages.too_large)
                return None
        except (Rejected, NotFound, Forbidden) as error:
            if pages.ask_behind_last():  # The run that was named may be gone.
                continue
            if pages.after or pages.oldest_first:  # The thread is there: what is refused is this page of it.
                pages.give_up(f"The server refused the next page. {error}")
                return None
            if error.http_status not in LIMIT_REFUSALS or pages.limit == 1:
                raise
            pages.limit //= 2
            is_limit_refused = True
        else:
            if is_limit_refused:
                share.limit = pages.limit
            return timed


def _take_page(share: _Share, thread: Thread, reading: ThreadReading, timed: TimedResponse[Page]) -> dict[str, object]:
    """Stores a page. Returns the counts to be written with the cursor."""
    _step(share, "page answered")
    pages, page = reading.current, timed.response.value
    share.note(largest_page=min(max(share.connection.largest_page, page.size), 32767))
    difference = runs.compare_list(thread, page.records, requested_at=timed.requested_at, received_at=timed.received_at)
    at_watermark = _shows_watermark(share, thread, page, difference)
    page, stored = _store_page(share, thread, reading, timed, difference)
    _step(share, "page stored")

    new = sum(not reading.has_shown(run_id) for run_id in dict.fromkeys(page.ids))
    habits = Habits(share.connection.largest_page, share.connection.has_more_is_wrong)
    pages.take(page, habits)
    pages.limit = min(pages.limit * 2, share.limit)  # It was halved for large runs: those may be behind us.
    if pages.has_more_was_wrong and not pages.oldest_first:
        share.note(has_more_is_wrong=True)
    reading.reached_watermark = (
        at_watermark and thread.watermark in page.ids and pages.in_order and not (pages.oldest_first or pages.doubt)
    )
    for message in page.unreadable:
        _tell_once(share, thread, reading, message)
    for run_id in stored.elsewhere:
        _tell_elsewhere(share, thread, reading, run_id)
    return {
        "pages": F("pages") + 1,
        "runs_seen": F("runs_seen") + new,
        "runs_created": F("runs_created") + stored.created,
        "runs_updated": F("runs_updated") + stored.updated,
    }


def _shows_watermark(share: _Share, thread: Thread, page: Page, difference: Difference) -> bool:
    """Whether the page reaches down to runs that are known. Unknown ones behind the watermark say that it does not."""
    if share.is_full or not thread.watermark or thread.watermark not in page.ids:
        return False
    older = page.ids[page.ids.index(thread.watermark) :]
    readable = {record.upstream_id for record in page.records}
    return all(run_id in difference.known for run_id in older if run_id in readable)


def _tell_once(share: _Share, thread: Thread, reading: ThreadReading, message: str, run_id: str = "") -> None:
    """A thread that is read twice, in both orders, shows its errors twice."""
    if message not in reading.told:
        reading.told.append(message)
        share.tell(message, thread=thread, run_id=run_id)


def _tell_unreadable_fields(share: _Share, thread: Thread, records: Iterable[RunRecord]) -> None:
    """Once in a pass for each field, however many runs have it: a server writes them all alike."""
    for record in records:
        for name in record.unreadable:
            if name in share.unreadable_fields or len(share.unreadable_fields) == MAX_FIELDS_TOLD:
                continue
            share.unreadable_fields.add(name)
            message = f"The field {name[:100]} could not be read"
            if not SyncError.objects.filter(sync=share.sync, message__startswith=message).exists():
                shown = record.shown(name)
                message += f" in every run: in {record.upstream_id} it is {shown}. Such a value is shown as unknown."
                share.tell(message, thread=thread, run_id=record.upstream_id)


def _tell_not_fetched(
    share: _Share, thread: Thread, reading: ThreadReading, run_id: str, error: RunsAdminError
) -> None:
    _tell_once(share, thread, reading, f"The run {run_id} could not be fetched: {error}", run_id)


def _tell_elsewhere(share: _Share, thread: Thread, reading: ThreadReading, run_id: str) -> None:
    owner = Thread.objects.get(runs__connection=thread.connection, runs__upstream_id=run_id)
    message = (
        f"The run {run_id} is shown in the thread {thread} and belongs to the thread {owner}, where it stays. "
        "Run ids have to be unique on a connection."
    )
    _tell_once(share, thread, reading, message, run_id)


def _step(share: _Share, step: str) -> None:
    logger.debug("Sync %s: %s.", share.sync.pk, step, extra={"sync": share.sync.pk, "step": step})


# --- Runs that a list does not show well enough


def _store_page(
    share: _Share, thread: Thread, reading: ThreadReading, timed: TimedResponse[Page], difference: Difference
) -> tuple[Page, Stored]:
    """Writes what a page shows. Where that is not enough, the runs themselves are fetched first.

    Returns the page as far as that came before the share was over, and what was written.
    """
    page = timed.response.value
    wanted = _to_fetch(share, thread, timed, difference)
    _tell_unreadable_fields(share, thread, page.records)
    if not wanted and not any(map(_hides_metadata, page.records)):
        return page, difference.write()
    page, fetched, failed = _fetch(share, thread, reading, page, wanted)
    kept = [  # Where metadata cannot be had, the other fields are better than nothing.
        record
        for record in page.records
        if (record.upstream_id in failed if _hides_metadata(record) else record.upstream_id not in wanted)
    ]
    _tell_unreadable_fields(share, thread, [one.response.value for one in fetched])
    listed = runs.store(thread, kept, requested_at=timed.requested_at, received_at=timed.received_at)
    one_by_one = runs.compare((thread, one) for one in fetched).write()
    return page, listed + one_by_one


def _fetch(
    share: _Share, thread: Thread, reading: ThreadReading, page: Page, wanted: set[str]
) -> tuple[Page, list[TimedResponse[RunRecord]], set[str]]:
    """The page as far as there was time, what was fetched of it, and the ids of the runs that could not be."""
    fetched: list[TimedResponse[RunRecord]] = []
    failed: set[str] = set()
    goes_on = False  # Whether the next share would go on behind where this one began.
    for run_id in page.ids:
        if run_id not in wanted or reading.has_shown(run_id):  # Then it was fetched a moment ago.
            goes_on = goes_on or run_id not in reading.current.ids
            continue
        if goes_on and share.is_over:
            return page.before(run_id), fetched, failed
        try:
            call = partial(gateway.fetch_run, thread.connection, thread.upstream_id, run_id)
            fetched.append(_with_patience(thread.connection, call))
        except NoSlot:
            if not goes_on:
                raise
            return page.before(run_id), fetched, failed
        except ConnectionHeld:
            raise
        except (UpstreamError, InvalidId) as error:
            share.count_failure(error)
            failed.add(run_id)
            _tell_not_fetched(share, thread, reading, run_id, error)
        else:
            share.failures = 0
        goes_on = goes_on or run_id not in reading.current.ids
        share.write()
    return page, fetched, failed


def _hides_metadata(record: RunRecord) -> bool:
    return record.metadata_state == MetadataState.NOT_SHOWN


def _to_fetch(share: _Share, thread: Thread, timed: TimedResponse[Page], difference: Difference) -> set[str]:
    """The runs of a page whose metadata it does not show, or which it may show as they were before.

    An incremental pass fetches only those that are new or whose other fields have changed.
    """
    not_shown, recent = set(), set()
    for record in timed.response.value.records:
        row = difference.known.get(record.upstream_id)
        if row is None:
            if _hides_metadata(record):
                not_shown.add(record.upstream_id)
        elif row["thread_id"] != thread.pk:
            continue
        elif _hides_metadata(record):
            was = difference.was.get(row["pk"])
            is_changed = was is not None and not record.is_part_of(was)
            if share.is_full or is_changed or row["missing_since"] or row["needs_refresh_since"]:
                not_shown.add(record.upstream_id)
        elif difference.changes(record.upstream_id) and row["received_at"] > timed.requested_at - LIST_LAG:
            recent.add(record.upstream_id)
    if recent and not connections.lists_are_fresh(thread.connection):
        return not_shown | recent
    return not_shown


# --- The runs that the pages did not show


def _read_the_rest(share: _Share, thread: Thread, reading: ThreadReading) -> bool:
    """After the last page: runs that were still active and not shown, and, when all was read, those that are gone.

    Returns whether the pages have to be read on, since one of those runs is there and the list should have shown it.
    """
    known = Run.objects.filter(thread=thread, missing_since=None, received_at__lt=reading.began_at)
    unseen = known if reading.shows_everything else known.filter(status__in=ACTIVE)
    for run in unseen.select_related("thread").defer("raw").iterator():
        if not reading.leaves_out(run.upstream_id):
            continue
        is_there = False
        try:
            call = partial(gateway.fetch_run, thread.connection, thread.upstream_id, run.upstream_id)
            stored = runs.store_one(run, _with_patience(thread.connection, call))
            share.write(runs_updated=F("runs_updated") + stored.updated, runs_seen=F("runs_seen") + 1)
            is_there = True
        except NotFound as error:
            if reading.is_complete:
                if not runs.find_reach(run, error):
                    raise ConnectionHeld(str(error)) from error
                share.write(runs_updated=F("runs_updated") + 1)
        except (ConnectionHeld, NoSlot):
            raise
        except (UpstreamError, InvalidId) as error:
            share.count_failure(error)
            _tell_not_fetched(share, thread, reading, run.upstream_id, error)
        else:
            share.failures = 0
        reading.fetched[run.upstream_id] = None
        if is_there and reading.shows_everything and reading.look_again():
            return True
        share.check_time()
    return False


def _finish_thread(share: _Share, thread: Thread, reading: ThreadReading) -> None:
    if not reading.is_complete:
        share.tell(
            f"This thread could not be read to its end, {reading.count:,} runs read. {reading.doubt} "
            "What was read is mirrored; ask whoever runs the server to check how it pages.",
            thread=thread,
        )
        return
    now = clock.now()
    checked: dict[str, object] = {"checked_at": now, "missing_since": None}
    if not reading.newest.in_order:
        checked["watermark"] = ""  # It would be the newest run, and nobody knows which one that is.
    elif reading.newest.first:
        checked["watermark"] = reading.newest.first
    if reading.shows_everything:
        checked["fully_checked_at"] = now
    Thread.objects.filter(pk=thread.pk).update(**checked)


def _with_patience[T](alias: str, call: Callable[[ClockBounds], TimedResponse[T]]) -> TimedResponse[T]:
    """Makes a call that only reads, and again after a fault that may pass. Raises UpstreamError."""
    faults = 0
    while True:
        connections.wait_for_slots(alias, 1)  # Also after a 429: apply_error() has put the next place behind it.
        try:
            return call(ClockBounds())
        except TooLarge:  # Asking again helps only with a smaller limit.
            raise
        except UpstreamError as error:
            connections.apply_error(alias, error)
            faults += 1
            if not isinstance(error, NotSent) or faults == TRIES:
                raise
            if not error.slow_down:
                time.sleep(FIRST_PAUSE * 2**faults)
