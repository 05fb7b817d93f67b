"""A sync that this process has claimed and works on for a limited time."""

import datetime as dt
import logging
import time
import uuid
from dataclasses import dataclass, field
from threading import Event

from django.db.models import F

from runsadmin.errors import NotSent, RunsAdminError, TooLarge
from runsadmin.models import ConnectionState, Sync, SyncError, SyncStatus, Thread
from runsadmin.models.sync import UNFINISHED, SyncQuerySet
from runsadmin.services import clock, connections
from runsadmin.upstream.paging import ThreadReading
from runsadmin.upstream.responses import PAGE_SIZE

logger = logging.getLogger("runsadmin.services.syncs")

MAX_TRIES = 3
LEASE = dt.timedelta(seconds=60)
MAX_ERRORS_KEPT = 1000


class Interrupted(Exception):
    """The pass was paused or cancelled, or another process has claimed it."""


class TimeUp(Exception):
    """The time of this call is up; another call continues the pass."""


@dataclass
class ClaimedSync:
    sync: Sync
    token: uuid.UUID
    until: float  # In time.monotonic().
    stopping: Event | None
    retry_after: dt.timedelta = dt.timedelta()  # How long not to send anything after this call.
    page_limit: int = PAGE_SIZE
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
    def is_time_up(self) -> bool:
        return time.monotonic() >= self.until or (self.stopping is not None and self.stopping.is_set())

    def check_time(self) -> None:
        """Raises TimeUp."""
        if self.is_time_up:
            raise TimeUp

    def write(self, **values: object) -> None:
        """Writes progress and renews the claim. Raises Interrupted."""
        if not self.row.filter(status=SyncStatus.RUNNING).update(claimed_until=clock.now() + LEASE, **values):
            raise Interrupted

    def save_reading(self, reading: ThreadReading) -> None:
        """Stores the reading for the next call, which needs to know which runs were shown."""
        pages = reading.current
        self.row.filter(status__in=UNFINISHED).update(
            reading=reading.dump(), cursor=pages.cursor, first_run=reading.newest.first, oldest_first=pages.oldest_first
        )

    def count_failure(self, error: RunsAdminError) -> None:
        """Raises the error if it seems to concern more than the run that was fetched."""
        if isinstance(error, NotSent) and not isinstance(error, TooLarge):
            self.failures += 1
            if self.failures >= MAX_TRIES:
                raise error

    def record_error(self, message: str, *, thread: Thread | None = None, run_id: str = "") -> None:
        self.write(errors_count=F("errors_count") + 1)
        if SyncError.objects.filter(sync=self.sync).count() < MAX_ERRORS_KEPT:
            SyncError.objects.create(sync=self.sync, thread=thread, run_id=run_id[:128], message=message[:2000])

    def remember(self, **values: object) -> None:
        """Stores what is known about how this connection pages."""
        if any(getattr(self.connection, name) != value for name, value in values.items()):
            ConnectionState.objects.filter(pk=self.connection.pk).update(**values)
            for name, value in values.items():
                setattr(self.connection, name, value)

    def log_step(self, step: str) -> None:
        logger.debug("Sync %s: %s.", self.sync.pk, step, extra={"sync": self.sync.pk, "step": step})
