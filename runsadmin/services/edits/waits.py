"""What an edit waits for, and until when, as shown to users."""

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from django.db.models import prefetch_related_objects

from runsadmin import conf
from runsadmin.models import BulkEditStatus, Edit, EditStatus
from runsadmin.models.edit import IN_FLIGHT, UNSETTLED
from runsadmin.services import connections
from runsadmin.services.edits import active_runs

WaitReason = Edit.WaitReason

# The columns of edits and their runs that this module reads.
_COLUMNS = (
    "run", "bulk_edit", "status", "wait_reason", "attempts", "next_attempt_at", "waiting_since", "claimed_until",
    "created_at", "sent_at", "restored_from", "run__connection", "run__status", "run__expires_at",
)  # fmt: skip


@dataclass(frozen=True)
class Wait:
    """`what` completes "Waits for …". `until` is when the wait ends at the latest, or None if that is not known."""

    what: str
    until: dt.datetime | None = None

    def __str__(self) -> str:
        return f"Waits for {self.what}{f', until {active_runs.utc(self.until)} at the latest' if self.until else ''}."


def waits_of(edits: Iterable[Edit]) -> dict[int, Wait]:
    """What each waiting edit waits for, by primary key. Uses a few queries for all edits, or none if no edit waits."""
    waiting = [edit for edit in edits if edit.status in UNSETTLED]
    if not waiting:
        return {}
    prefetch_related_objects(waiting, "run", "bulk_edit")
    return _waits(waiting, _unsettled([edit.run_id for edit in waiting if _waits_for_others(edit)]))


def waits_in_runs(runs: Sequence[int]) -> dict[int, Wait]:
    """What the unsettled edits of these runs wait for, by primary key."""
    by_run = _unsettled(runs)
    return _waits([edit for edits in by_run.values() for edit in edits], by_run) if by_run else {}


def _waits(waiting: Iterable[Edit], by_run: Mapping[int, Sequence[Edit]]) -> dict[int, Wait]:
    held = {row.alias: row.hold_detail if row.hold else "a backup was restored" for row in connections.held()}
    waits: dict[int, Wait] = {}
    for edit in waiting:
        first = _first(edit, by_run[edit.run_id]) if _waits_for_others(edit) else None
        if first is None or _stopped(edit, held):
            waits[edit.pk] = _of(edit, held)
        else:
            waits[edit.pk] = _behind(first, _of(first, held))
    return waits


def _of(edit: Edit, held: dict[str, str]) -> Wait:
    """What the edit itself waits for, apart from the edits before it."""
    if edit.status == EditStatus.SENDING:
        return Wait("upstream's response", edit.claimed_until)
    if edit.awaits_release and edit.status == EditStatus.PENDING:
        return Wait("a user to release it")
    if wait := _stopped(edit, held):
        return wait
    match edit.status, edit.wait_reason:
        case EditStatus.UNKNOWN, _:
            return Wait("a fetch that shows whether the write happened", _known_by(edit))
        case _ if edit.bulk_edit is not None and edit.bulk_edit.status == BulkEditStatus.PAUSED:
            return Wait("its paused bulk edit to be resumed")
        case _, WaitReason.ACTIVE_RUN:
            waiting_since = edit.waiting_since or edit.created_at
            until = active_runs.ends_at(edit, waiting_since, expires_at=edit.run.expires_at)
            return Wait(f"the run to end (it is {edit.run.status})", until)
        case _, WaitReason.RETRY:
            tried = f": {edit.attempts} of {conf.max_attempts()} have failed" if edit.attempts else ""
            return Wait(f"its next attempt{tried}", edit.next_attempt_at)
        case _, WaitReason.REFUSED:
            return Wait("another write to show whether upstream refuses only this one", edit.next_attempt_at)
        case _:
            return Wait("a worker to claim it", edit.next_attempt_at)


def _stopped(edit: Edit, held: dict[str, str]) -> Wait | None:
    """What the edit waits for if nothing may be sent to its connection."""
    if conf.hold():
        return Wait("the setting RUNSADMIN_HOLD to be turned off")
    if (why := held.get(edit.run.connection)) is not None:
        reason = f" (it is held: {why.rstrip(' .:')})" if why else ""
        return Wait(f"the connection {edit.run.connection} to be released{reason}")
    what = connections.missing_upstream(edit.run.connection)
    return Wait(what) if what else None


def _known_by(edit: Edit) -> dt.datetime | None:
    """When a fetch shows the result at the latest. If fetches still fail by then, the time of the next one."""
    times = [edit.next_attempt_at]
    if edit.sent_at is not None:
        times.append(edit.sent_at + conf.connection(edit.run.connection).timeout + conf.settling_time())
    return max((time for time in times if time is not None), default=None)


# --- Earlier edits of its run


def _waits_for_others(edit: Edit) -> bool:
    """Whether only earlier edits of its run can keep it from being sent."""
    return edit.status == EditStatus.PENDING and edit.wait_reason == WaitReason.TURN


def _unsettled(runs: Sequence[int]) -> dict[int, list[Edit]]:
    """The unsettled edits of each run, oldest first."""
    by_run: dict[int, list[Edit]] = defaultdict(list)
    if runs:
        unsettled = Edit.objects.filter(run_id__in=runs, status__in=UNSETTLED).order_by("pk").only(*_COLUMNS)
        # Bulk edits are prefetched instead of joined, since most of these edits may belong to the same one.
        for edit in unsettled.select_related("run").prefetch_related("bulk_edit"):
            by_run[edit.run_id].append(edit)
    return by_run


def _first(edit: Edit, others: Sequence[Edit]) -> Edit | None:
    """Like `claims.comes_before`, but without a query."""
    if in_flight := [other for other in others if other.status in IN_FLIGHT and other.pk != edit.pk]:
        return in_flight[0]
    waiting = (other for other in others if other.status == EditStatus.PENDING and not other.awaits_release)
    earlier = (other for other in waiting if other.pk < edit.pk)
    return next((other for other in earlier if _counts(other, edit)), None)


def _counts(other: Edit, edit: Edit) -> bool:
    """Whether `edit` waits for `other`. Single edits do not wait for bulk edits, and no edit for a paused one."""
    return other.bulk_edit is None or (edit.bulk_edit is not None and other.bulk_edit.is_in_progress)


def _behind(first: Edit, wait: Wait) -> Wait:
    return Wait(f"an earlier edit of this run (edit {first.pk}), which waits for {wait.what}", wait.until)
