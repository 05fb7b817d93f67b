"""What can keep claimed edits from being sent: a hold, a stopped bulk edit, or a server that asks us to slow down."""

import datetime as dt
import time
from threading import Lock

from runsadmin import conf
from runsadmin.errors import NoSlot, UpstreamError
from runsadmin.models import BulkEdit, ConnectionState, Edit, EditStatus
from runsadmin.models.bulk_edit import IN_PROGRESS
from runsadmin.services import clock, connections, gateway
from runsadmin.services.edits import outcomes, rewrites
from runsadmin.services.edits.claims import Claim
from runsadmin.services.edits.deciding import Intent
from runsadmin.services.edits.outcomes import Outcome
from runsadmin.services.gateway import TimedResponse
from runsadmin.upstream.records import RunRecord

# Holds, pauses, cancellations and the back-off are read from the database at this interval, in seconds.
REFRESH_EVERY = 0.5
# During a back-off of up to this many seconds, the batch waits instead of ending.
MAX_BACK_OFF = 5.0


class SendGate:
    """Only the coordinator may call `refresh`, which uses the database. Threads of the pool may call other methods."""

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self.hold_reason = ""
        self.writing_is_held = False  # Even while writing is held, unknown edits are reconciled.
        self.has_refused = False  # Whether refused edits wait for the result of another write.
        self.lists_are_fresh = False
        self.lists_are_stale = False
        self._backs_off_until = 0.0
        self._in_progress: set[int | None] = {None}
        self._rewritten: set[int | None] = set()
        self._refreshed = -REFRESH_EVERY

    @property
    def back_off(self) -> float:
        """The remaining seconds during which nothing may be sent."""
        return max(0.0, self._backs_off_until - time.monotonic())

    @property
    def lists_may_prove(self) -> bool:
        """Whether lists may still prove to be fresh."""
        return not self.lists_are_fresh and not self.lists_are_stale

    def refresh(self) -> None:
        """Reads the state from the database if the last reading is too old."""
        if time.monotonic() - self._refreshed < REFRESH_EVERY:
            return
        in_progress = BulkEdit.objects.filter(connection=self.alias, status__in=IN_PROGRESS)
        accepts_rewrites = dict(in_progress.values_list("pk", "accepts_rewrites"))
        self._in_progress = {None, *accepts_rewrites}
        self._rewritten -= {pk for pk, accepts in accepts_rewrites.items() if accepts}
        row = ConnectionState.objects.filter(alias=self.alias).first() or ConnectionState(alias=self.alias)
        self.hold_reason = connections.hold_reason(self.alias, row=row)
        self.writing_is_held = not conf.hold() and row.only_writing_is_held
        self.has_refused = row.refused_at is not None
        self.lists_are_fresh = connections.lists_are_fresh(self.alias, row=row)
        self.lists_are_stale = row.stale_list_at is not None
        if row.not_before:
            self._back_off((row.not_before - clock.now()).total_seconds())
        self._refreshed = time.monotonic()

    def note_error(self, error: UpstreamError) -> None:
        """Applies the error of one request to the whole connection immediately."""
        effect = gateway.effect_of(error)
        if effect.back_off is not None:
            self._back_off(effect.back_off)
        self.hold_reason = effect.detail or self.hold_reason

    def note_write(self, intent: Intent, timed: TimedResponse[RunRecord]) -> None:
        """If upstream has changed keys that the edit does not touch, stops sending its bulk edit immediately.

        Storing the outcome then pauses the bulk edit.
        """
        edit, record = intent.claim.edit, timed.value
        if record.shows_metadata and rewrites.pauses(edit, rewrites.of(edit, intent.intended, record.metadata)):
            self._rewritten.add(edit.bulk_edit_id)

    def _back_off(self, seconds: float) -> None:
        self._backs_off_until = max(self._backs_off_until, time.monotonic() + seconds)

    def wait_out_back_off(self, longest: float = MAX_BACK_OFF) -> None:
        """Waits until the back-off ends. Raises NoSlot if that takes longer than `longest`."""
        while seconds := self.back_off:
            if seconds > longest:
                raise NoSlot("The server asked for fewer requests.", retry_after=seconds)
            time.sleep(seconds)

    def blocked(self, claim: Claim) -> Outcome | None:
        """The outcome if the edit may not be sent now, otherwise None."""
        if self.hold_reason:
            return outcomes.held(claim, self.hold_reason)
        if seconds := self.back_off:
            # During a short back-off, this batch keeps running, so the edits stay due.
            pause = dt.timedelta(seconds=seconds if seconds > MAX_BACK_OFF else 0)
            detail = "The server asked for fewer requests."
            return Outcome(claim, EditStatus.PENDING, detail, pause=pause, wait_reason=Edit.WaitReason.RETRY)
        bulk_edit = claim.edit.bulk_edit_id
        if bulk_edit not in self._in_progress or bulk_edit in self._rewritten:
            return Outcome(claim, EditStatus.PENDING, "The bulk edit was stopped.", pause=dt.timedelta())
        return None


class RequestSpacer:
    """Spaces the requests of one process, so that it uses a block of slots evenly."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._next = 0.0
        self._interval = 0.0

    def start_block(self, *, after: float, per_second: float) -> None:
        with self._lock:
            self._next = max(self._next, time.monotonic() + after)
            self._interval = 1 / per_second

    def wait(self, slots: int) -> None:
        if not self._interval:
            return
        with self._lock:
            at = max(self._next, time.monotonic())
            self._next = at + slots * self._interval
        time.sleep(max(0.0, at - time.monotonic()))
