"""All edits whose time has come, in the background."""

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event

from django.db import connection

from runsadmin.models import Edit, EditStatus
from runsadmin.services import clock, connections, probes
from runsadmin.services.edits import claims, many, refusals
from runsadmin.services.edits.pushing import push, waits_for_turn
from runsadmin.services.edits.reconciling import reconcile

# The shortest pause between two looks at a row, in seconds.
SHORTEST = 0.1


def process_due(*, until: float, stopping: Event | None = None) -> int:
    """Brings on every edit whose time has come, until `time.monotonic()` reaches `until`, or until `stopping` is set.

    Returns how many it took up.

    Finds the claims of processes that died, looks after lost answers, and pushes what is due. The rows are the truth:
    calling it twice, late or in two processes at once changes nothing but the time it takes.
    """
    claims.release_expired()
    aliases = connections.available_aliases()
    for alias in aliases:
        _try_writing(alias)
    if len(aliases) == 1:
        return many.bring_on(aliases[0], until=until, stopping=stopping)

    def bring_on(alias: str) -> int:
        try:
            return many.bring_on(alias, until=until, stopping=stopping)
        finally:
            connection.close()

    # Side by side, so that no connection waits for another that is slow.
    with ThreadPoolExecutor(max(1, len(aliases))) as pool:
        return sum(pool.map(bring_on, aliases))


def _try_writing(alias: str) -> None:
    """While writing is held: sends one edit when it is time, to see whether it still has to be."""
    for edit in refusals.edits_to_try(alias):
        tried = push(edit, is_trial=True)
        if tried.has_ended or tried.next_attempt_at != edit.next_attempt_at:
            return  # Otherwise it is not its turn.


def push_until_settled(edit: Edit, *, until: float) -> Edit:
    """Pushes one edit until it has ended or `time.monotonic()` reaches `until`: there may be no worker that would."""
    edit = push(edit, interactive=True)
    while not edit.has_ended and (left := until - time.monotonic()) > 0:
        due = 0.0
        if edit.next_attempt_at is not None and not waits_for_turn(edit):
            due = (edit.next_attempt_at - clock.now()).total_seconds()
        time.sleep(min(max(due, SHORTEST), left))
        if edit.wait_reason == Edit.WaitReason.HELD:
            probes.probe_held()
        edit = claims.reload(edit)
        if waits_for_turn(edit) or (edit.next_attempt_at is not None and edit.next_attempt_at <= clock.now()):
            edit = reconcile(edit) if edit.status == EditStatus.UNKNOWN else push(edit, interactive=True)
    return edit


def has_backlog() -> bool:
    """Whether there is so much to push that a second process would be of use."""
    return any(
        claims.has_backlog(alias) for alias in connections.available_aliases() if not connections.is_backing_off(alias)
    )
