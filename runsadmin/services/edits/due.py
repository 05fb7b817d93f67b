"""Processes all due edits, in the background."""

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event

from django.db import connection

from runsadmin.models import Edit, EditStatus
from runsadmin.services import clock, connections, probes
from runsadmin.services.edits import batch, claims, refusals
from runsadmin.services.edits.pushing import push, reconcile, waits_for_turn

# The minimum pause between two checks of a row, in seconds.
SHORTEST_PAUSE = 0.1
# While a connection is busy, others check for new edits this often, in seconds.
BUSY_PAUSE = 0.5


def process_due(*, until: float, stopping: Event | None = None) -> int:
    """Pushes and reconciles all due edits, until `time.monotonic()` reaches `until` or `stopping` is set.

    Returns how many edits it claimed. Also releases the claims of dead processes. It acts only on the state of the
    rows, so it may be called twice, late, or in several processes at once.
    """
    claims.release_expired()
    aliases = connections.available_aliases()
    if len(aliases) == 1:
        return _push_due(aliases[0], until, stopping)
    busy = set(aliases)

    def push_while_any_is_busy(alias: str) -> int:
        try:
            count = _push_due(alias, until, stopping)
            busy.discard(alias)
            # While other connections are busy, push new edits of this one, so that these do not wait for them.
            while busy and time.monotonic() < until and not (stopping is not None and stopping.is_set()):
                time.sleep(BUSY_PAUSE)
                count += _push_due(alias, until, stopping)
            return count
        finally:
            busy.discard(alias)
            connection.close()

    with ThreadPoolExecutor(max(1, len(aliases))) as pool:
        return sum(pool.map(push_while_any_is_busy, aliases))


def _push_due(alias: str, until: float, stopping: Event | None) -> int:
    _try_writing(alias)
    return batch.push_due(alias, until=until, stopping=stopping)


def _try_writing(alias: str) -> None:
    """While writing is held, sends an edit from time to time to check whether writes are accepted again."""
    for edit in refusals.edits_to_try(alias):
        tried = push(edit, is_trial=True)
        # If nothing has changed, the edit waits for other edits of its run: try the next one.
        if tried.has_ended or tried.next_attempt_at != edit.next_attempt_at:
            return


def push_until_settled(edit: Edit, *, until: float) -> Edit:
    """Pushes one edit until it has ended or `time.monotonic()` reaches `until`. Does not need a running worker."""
    edit = push(edit, interactive=True)
    while not edit.has_ended and (left := until - time.monotonic()) > 0:
        due = 0.0
        if edit.next_attempt_at is not None and not waits_for_turn(edit):
            due = (edit.next_attempt_at - clock.now()).total_seconds()
        time.sleep(min(max(due, SHORTEST_PAUSE), left))
        if edit.wait_reason == Edit.WaitReason.HELD:
            probes.probe_held()
        edit = claims.reload(edit)
        if waits_for_turn(edit) or (edit.next_attempt_at is not None and edit.next_attempt_at <= clock.now()):
            edit = reconcile(edit) if edit.status == EditStatus.UNKNOWN else push(edit, interactive=True)
    return edit


def has_backlog() -> bool:
    """Whether so many edits are due that a second process would help."""
    return any(
        claims.has_backlog(alias) for alias in connections.available_aliases() if not connections.is_backing_off(alias)
    )
