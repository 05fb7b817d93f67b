"""Waiting for an active run to end: for how long, and how often the run is fetched during the wait.

A stuck run never ends, so the wait ends some time after the run's `expires_at`. An edit of a bulk edit waits as long
as its plan says.
"""

import datetime as dt

from runsadmin import conf
from runsadmin.errors import UpstreamError
from runsadmin.models import Edit, EditStatus
from runsadmin.services.edits.claims import Claim
from runsadmin.services.edits.outcomes import Outcome
from runsadmin.services.gateway import TimedResponse
from runsadmin.upstream.records import RunRecord

# The first and the longest pause between two fetches of the run.
FIRST_PAUSE, LONGEST_PAUSE = dt.timedelta(seconds=5), dt.timedelta(seconds=60)
# An `expires_at` is not trusted beyond this long after the start of the wait.
LONGEST_RUN = dt.timedelta(days=30)

HOW_TO_WAIT = "plan a bulk edit that waits for active runs (REST: `wait_for_active`, shell: `--wait-for-active`)"


def ends_at(edit: Edit, waiting_since: dt.datetime, *, expires_at: dt.datetime | None) -> dt.datetime | None:
    """When the wait ends at the latest. None if the edit does not wait. `expires_at` is the run's."""
    if edit.bulk_edit is not None:
        return edit.bulk_edit.active_until
    if expires_at is None:
        return waiting_since + conf.active_run_wait()
    return min(max(waiting_since, expires_at), waiting_since + LONGEST_RUN) + conf.active_run_wait()


def wait(
    claim: Claim,
    detail: str,
    now: dt.datetime,
    timed: TimedResponse[RunRecord] | None = None,
    *,
    error: UpstreamError | None = None,
) -> Outcome:
    """The outcome for an edit whose run is active. `detail` is a sentence that says so."""
    edit = claim.edit
    waiting_since = edit.waiting_since or now
    expires_at = edit.run.expires_at if timed is None else _expires_at(timed.value)
    until = ends_at(edit, waiting_since, expires_at=expires_at)
    if until is None:
        detail = f"{detail} Its bulk edit does not wait for active runs. To wait, {HOW_TO_WAIT}."
    elif until <= now:
        expired = f", and the run should have ended by {utc(expires_at)}" if expires_at is not None else ""
        detail = f"{detail} The edit has waited for it to end since {utc(waiting_since)}{expired}. Nothing was sent."
    else:
        pause = min(max(FIRST_PAUSE, (now - waiting_since) / 4), LONGEST_PAUSE, until - now)
        reason = Edit.WaitReason.ACTIVE_RUN
        values: dict[str, object] = {"waiting_since": waiting_since}
        return Outcome(claim, EditStatus.PENDING, detail, timed, error, pause, reason, values)
    return Outcome(claim, EditStatus.FAILED, f"{detail} Retry the edit when the run has ended.", timed, error)


def _expires_at(record: RunRecord) -> dt.datetime | None:
    expires_at = record.columns["expires_at"]
    return expires_at if isinstance(expires_at, dt.datetime) else None


def utc(time: dt.datetime) -> str:
    return f"{time.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S} UTC"
