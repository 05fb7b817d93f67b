"""A sync that this process has claimed and works on for a limited time."""

import datetime as dt
import logging
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Event

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Greatest

from runsadmin.db_errors import is_database_failure
from runsadmin.errors import InvalidId, NotSent, TooLarge, UpstreamError
from runsadmin.models import ConnectionState, Sync, SyncError, SyncStatus, Thread
from runsadmin.models.sync import UNFINISHED, SyncQuerySet
from runsadmin.services import clock, connections, gateway
from runsadmin.services.clock import ClockBounds
from runsadmin.services.gateway import TimedResponse
from runsadmin.services.runs import Difference
from runsadmin.upstream.paging import ThreadReading
from runsadmin.upstream.records import PAGE_SIZE, Page, RunRecord

logger = logging.getLogger("runsadmin.services.syncs")

MAX_TRIES = 3
# After n errors, the pause before the next try is 2**n times this many seconds.
FIRST_PAUSE = 0.5
LEASE = dt.timedelta(seconds=60)
# Pages are stored together until they have this many runs to write, or until this many seconds have passed.
MAX_PENDING_RUNS = 500
MAX_PENDING_SECONDS = 1.0
MAX_ERRORS_KEPT = 1000
MAX_FIELDS_REPORTED = 50


class Interrupted(Exception):
    """The pass was paused or cancelled, or another process has claimed it."""


class TimeUp(Exception):
    """The time of this call is up; another call continues the pass."""


@dataclass
class Pending:
    """What a pass has read and not stored yet: runs, what it found out about threads, and its own progress."""

    differences: list[Difference] = field(default_factory=list)
    runs: dict[str, int] = field(default_factory=dict)  # The thread of each run, by upstream id.
    threads: dict[int, Mapping[str, object]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    position: dict[str, object] = field(default_factory=dict)

    def add(self, difference: Difference) -> None:
        self.differences.append(difference)
        self.runs |= {upstream_id: thread.pk for upstream_id, (thread, _) in difference.observations.items()}

    def shares_runs(self, page: Page, thread: Thread) -> bool:
        """Whether a run of this page was shown by another thread."""
        return any(self.runs.get(upstream_id, thread.pk) != thread.pk for upstream_id in page.ids)


def progress_of(counts: Mapping[str, int]) -> dict[str, object]:
    """What to add to the columns of a sync."""
    progress: dict[str, object] = {name: F(name) + count for name, count in counts.items() if count}
    if "threads_done" in progress:
        progress["threads_total"] = Greatest(F("threads_total"), progress["threads_done"])
    return progress


def described(error: Exception) -> str:
    """An internal error as one sentence, with the beginning of its message."""
    first = str(error).strip().partition("\n")[0][:300]
    return f"{type(error).__name__}: {first}. See the log." if first else f"{type(error).__name__}. See the log."


@dataclass
class ClaimedSync:
    """`thread` is the one that is being read, and `reading` is what its pages have shown so far."""

    sync: Sync
    token: uuid.UUID
    until: float  # In time.monotonic().
    stopping: Event | None
    thread: Thread = field(init=False)
    reading: ThreadReading = field(init=False)
    retry_after: dt.timedelta = dt.timedelta()  # How long to send nothing after this call.
    page_limit: int = PAGE_SIZE
    failures: int = 0
    unreadable_fields: set[str] = field(default_factory=set)
    connection: ConnectionState = field(init=False)
    pending: Pending = field(default_factory=Pending)
    written_at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.connection = connections.state(self.sync.connection)

    @property
    def row(self) -> SyncQuerySet:
        return Sync.objects.filter(pk=self.sync.pk, claim_token=self.token)

    @property
    def is_full(self) -> bool:
        return self.sync.kind == Sync.Kind.FULL

    @property
    def is_time_up(self) -> bool:
        return time.monotonic() >= self.until or (self.stopping is not None and self.stopping.is_set())

    def check_time(self) -> None:
        """Raises TimeUp, after storing all that is pending."""
        if self.is_time_up:
            self.write()
            raise TimeUp

    def note(self, counts: Mapping[str, int], **position: object) -> None:
        """Adds to the progress. Stores all that is pending if it is many runs, or if nothing was stored for a while."""
        self.pending.counts.update(counts)
        self.pending.position |= position
        for name, value in position.items():
            setattr(self.sync, name, value)
        if len(self.pending.runs) >= MAX_PENDING_RUNS or time.monotonic() - self.written_at >= MAX_PENDING_SECONDS:
            self.write()

    def write(self, **values: object) -> None:
        """Stores all that is pending and renews the claim. Raises Interrupted if the pass stopped or the claim is lost.

        Runs and progress are stored in one transaction: after a crash, the pass reads again what was not stored. If
        the database refuses them, each run is stored on its own, and those that cannot be stored are recorded.
        """
        pending, self.pending, self.written_at = self.pending, Pending(), time.monotonic()
        try:
            is_running = self._write(pending, Difference.of_all(pending.differences), values)
        except Exception as error:
            if is_database_failure(error) or not (pending.differences or pending.threads):
                raise
            self._write_one_by_one(pending)
            pending.threads = {}
            is_running = self._write(pending, Difference.of_all([]), values)
        if pending.counts["pages"]:
            self.log_step("pages stored")
        if not is_running:
            raise Interrupted

    def _write(self, pending: Pending, difference: Difference, values: dict[str, object]) -> bool:
        """Returns whether the pass is still running and claimed."""
        with transaction.atomic():
            stored = difference.write()
            counts = pending.counts + Counter(runs_created=stored.created, runs_updated=stored.updated)
            for pk, found in pending.threads.items():
                Thread.objects.filter(pk=pk).update(**found)
            values = values | pending.position | progress_of(counts)
            is_running = self.row.filter(status=SyncStatus.RUNNING).update(claimed_until=clock.now() + LEASE, **values)
            if values and not is_running:  # What was read before a pause still counts.
                self.row.filter(status__in=UNFINISHED).update(**values)
        return bool(is_running)

    def _write_one_by_one(self, pending: Pending) -> None:
        """Stores what can be stored. The rest is recorded as errors of its threads."""
        refused: list[Exception] = []
        for single in (single for difference in pending.differences for single in difference.singles()):
            ((run_id, (thread, _)),) = single.observations.items()
            with self._refusal_recorded(thread, f"The run {run_id}", refused, run_id):
                stored = single.write()
                self.row.update(**progress_of(Counter(runs_created=stored.created, runs_updated=stored.updated)))
        threads = Thread.objects.in_bulk(pending.threads)
        for pk, found in pending.threads.items():
            with self._refusal_recorded(threads[pk], "The new state of this thread", refused):
                Thread.objects.filter(pk=pk).update(**found)

    @contextmanager
    def _refusal_recorded(
        self, thread: Thread, what: str, refused: list[Exception], run_id: str = ""
    ) -> Iterator[None]:
        try:
            with transaction.atomic():
                yield
        except Exception as error:
            if is_database_failure(error):
                raise
            if not refused:  # The others are likely to be refused for the same reason.
                logger.exception("Sync %s: %s could not be stored.", self.sync.pk, what)
            refused.append(error)
            self.row.update(errors_count=F("errors_count") + 1)
            self._keep_error(thread, f"{what} could not be stored. {described(error)}", run_id)

    def save_reading(self) -> None:
        """Stores the reading for the next call, which needs to know which runs were shown."""
        self.pending.position |= {"reading": self.reading.dump(), **self.position}
        with suppress(Interrupted):
            self.write()

    @property
    def position(self) -> dict[str, object]:
        """The columns that say where to continue."""
        pages = self.reading.current
        return {"cursor": pages.cursor, "first_run": self.reading.newest.first, "oldest_first": pages.oldest_first}

    def remember(self, **values: object) -> None:
        """Stores what is known about how this connection pages."""
        if any(getattr(self.connection, name) != value for name, value in values.items()):
            ConnectionState.objects.filter(pk=self.connection.pk).update(**values)
            for name, value in values.items():
                setattr(self.connection, name, value)

    def log_step(self, step: str) -> None:
        logger.debug("Sync %s: %s.", self.sync.pk, step, extra={"sync": self.sync.pk, "step": step})

    # --- Calls

    def fetch_run(self, run_id: str) -> TimedResponse[RunRecord]:
        """Raises UpstreamError or InvalidId."""
        timed = self.retried(lambda bounds: gateway.fetch_run(self.thread, run_id, bounds))
        self.failures = 0
        return timed

    def retried[T](self, call: Callable[[ClockBounds], TimedResponse[T]]) -> TimedResponse[T]:
        """Retries after temporary errors. Raises UpstreamError."""
        faults = 0
        while True:
            # After a 429, the back-off has postponed the next slot.
            connections.wait_for_slots(self.thread.connection_settings, 1)
            try:
                return call(ClockBounds())
            except TooLarge:  # With the same limit, the next response would be too large as well.
                raise
            except UpstreamError as error:
                connections.apply_error(self.sync.connection, error)
                faults += 1
                if not isinstance(error, NotSent) or faults == MAX_TRIES:
                    raise
                if not error.slow_down:
                    time.sleep(FIRST_PAUSE * 2**faults)

    # --- What could not be read

    def record_error(self, message: str, run_id: str = "") -> None:
        self.write(errors_count=F("errors_count") + 1)
        self._keep_error(self.thread, message, run_id)

    def record_crash(self, error: Exception) -> None:
        """Records that reading the thread ended with an internal error. What was read before is stored."""
        logger.error("Sync %s could not read the thread %s.", self.sync.pk, self.thread, exc_info=error)
        self.record_error(f"Reading this thread failed with an internal error. {described(error)}")

    def _keep_error(self, thread: Thread, message: str, run_id: str) -> None:
        if SyncError.objects.filter(sync=self.sync).count() < MAX_ERRORS_KEPT:
            SyncError.objects.create(sync=self.sync, thread=thread, run_id=run_id[:128], message=message[:2000])

    def record_once(self, message: str, run_id: str = "") -> None:
        """Records an error unless it is a duplicate: a thread that is read in both orders shows its errors twice."""
        if message not in self.reading.reported:
            self.reading.reported.append(message)
            self.record_error(message, run_id)

    def record_not_fetched(self, run_id: str, error: UpstreamError | InvalidId) -> None:
        """Records that a run could not be fetched, or raises the error if it seems to concern other runs as well."""
        if isinstance(error, NotSent) and not isinstance(error, TooLarge):
            self.failures += 1
            if self.failures >= MAX_TRIES:
                raise error
        self.record_once(f"The run {run_id} could not be fetched: {error}", run_id)

    def record_unreadable_fields(self, records: Iterable[RunRecord]) -> None:
        """Records each unreadable field once per pass, since a server formats it the same way in all runs."""
        for record in records:
            for name in record.unreadable:
                if name in self.unreadable_fields or len(self.unreadable_fields) == MAX_FIELDS_REPORTED:
                    continue
                self.unreadable_fields.add(name)
                message = f"The field {name[:100]} could not be read"
                if not SyncError.objects.filter(sync=self.sync, message__startswith=message).exists():
                    example = f"In {record.upstream_id}, it is {record.shown(name)}"
                    message += f" in some runs. {example}. Such a value is shown as unknown."
                    self.record_error(message, record.upstream_id)
