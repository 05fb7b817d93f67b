"""Decides what to send: a three-way merge of the patch with what the fetch returned. Pure functions."""

import datetime as dt
import time
from dataclasses import dataclass

from runsadmin.errors import InvalidMetadata, NotSent, UpstreamError
from runsadmin.metadata import Metadata, MetadataState, merge3
from runsadmin.models import Edit, EditStatus
from runsadmin.models.run import LOCKED
from runsadmin.services.edits import active_runs
from runsadmin.services.edits.claims import Claim
from runsadmin.services.edits.outcomes import Outcome
from runsadmin.services.edits.undo import skipped_keys_message
from runsadmin.services.gateway import TimedResponse
from runsadmin.upstream.records import RunRecord

# An older fetch is repeated before the write. This bounds the race window, in which another client's write can be lost.
MAX_FETCH_AGE = dt.timedelta(seconds=2)


@dataclass(frozen=True)
class Intent:
    """A write to send: the fetched metadata, and the metadata that replaces it."""

    claim: Claim
    before: Metadata
    intended: Metadata
    fetched_at: float  # In time.monotonic().
    detail: str = ""  # The detail of the edit once it is applied.
    has_slot: bool = True  # Whether its slot was already taken along with the slot of its fetch.
    was_refused: bool = False  # Whether a 429 refused the first attempt at this write.

    @property
    def fetch_age(self) -> dt.timedelta:
        return dt.timedelta(seconds=time.monotonic() - self.fetched_at)

    @property
    def send_by(self) -> float:
        """The latest time to send, in time.monotonic(). After that, another process could claim the edit."""
        return self.fetched_at + min(MAX_FETCH_AGE, self.claim.edit.run.connection_settings.timeout).total_seconds()


def decide_write(claim: Claim, timed: TimedResponse[RunRecord], *, fetched_at: float) -> Outcome | Intent:
    """Decides from the fetched run what to send, if anything."""
    edit = claim.edit
    now = timed.value
    if edit.is_purged:  # Without its values, it would count as applied.
        return Outcome(claim, EditStatus.REJECTED, edit.detail, timed)
    if now.metadata_state == MetadataState.UNREADABLE:
        return Outcome(claim, EditStatus.REJECTED, UNREADABLE, timed)
    if not now.shows_metadata:  # Sending metadata would erase what is there.
        return Outcome(claim, EditStatus.FAILED, NOT_SHOWN, timed)
    if now.status in LOCKED and edit.wait_reason == Edit.WaitReason.ACTIVE_RUN:
        return active_runs.wait(claim, f"The run is still {now.status}.", timed.received_at, timed)
    theirs = now.metadata
    merge = merge3(edit.patch, base=edit.base, theirs=theirs)
    # An undo skips the keys that have been changed since, and restores the others.
    if merge.conflicts and (edit.undoes_id is None or not merge.patch):
        detail = f"Someone else changed these keys in the meantime: {', '.join(merge.conflicting_keys)}."
        return Outcome(claim, EditStatus.CONFLICT, detail, timed, values={"before": theirs})
    try:
        merge.patch.check(theirs)
    except InvalidMetadata as error:
        return Outcome(claim, EditStatus.REJECTED, str(error), timed, values={"before": theirs})
    detail = skipped_keys_message(edit.undoes, merge.result)
    if merge.result == theirs:
        values: dict[str, object] = {"before": theirs, "intended": theirs, "after": theirs}
        return Outcome(claim, EditStatus.APPLIED, detail or "Upstream already had these changes.", timed, values=values)
    return Intent(claim, theirs, merge.result, fetched_at, detail)


UNREADABLE = (
    "The metadata of this run contains a value that cannot be read, and an edit would change it. "
    "Nothing was sent. Correct the value upstream, then retry."
)
NOT_SHOWN = (
    "The server does not show the metadata of this run, so an edit could overwrite what is there. Nothing was sent. "
    "If this server leaves out empty metadata, set MISSING_METADATA_IS_EMPTY for the connection, then retry."
)


def may_be_sent_again(intent: Intent, error: UpstreamError, back_off: float) -> bool:
    """Whether this was the first 429 of a write whose fetch will still be fresh after the back-off."""
    if not (isinstance(error, NotSent) and error.slow_down) or intent.was_refused:
        return False
    return intent.fetch_age + dt.timedelta(seconds=back_off) < MAX_FETCH_AGE


def stale_fetch(intent: Intent) -> Outcome | None:
    """The outcome if the fetch is too old to rely on, otherwise None. Called right before sending."""
    if intent.fetch_age <= MAX_FETCH_AGE:
        return None
    detail, at_once = "The fetch was too old to rely on.", dt.timedelta()
    return Outcome(intent.claim, EditStatus.PENDING, detail, pause=at_once, wait_reason=Edit.WaitReason.RETRY)
