"""Edits: recorded, pushed, reconciled, retried, cancelled, undone.

An edit is recorded as a row before any request is sent. No transaction is open during a request. Intents and outcomes
are stored by conditional UPDATEs that require the claim's token, so a process that has lost its claim changes nothing.

`recording` writes the edit. `claims` gives one process the right to work on it. `pushing` takes one edit from its claim
to its outcome, and reconciles an unknown edit: `deciding` (what to send) and `classifying` (what a response means) are
pure functions, `outcomes` are values, and `storing` writes them. `batch` does all of this for many edits at once, and
`due` for all due edits. `waits` says what an edit waits for. `actions` contains what users can do with a recorded edit,
and `restored` what they can do with one from a backup.
"""

from runsadmin.services.edits.actions import (
    EditAction,
    cancel,
    conflicts,
    permitted_actions,
    resolve,
    retry,
    try_again,
    undo,
)
from runsadmin.services.edits.claims import release_expired
from runsadmin.services.edits.due import has_backlog, process_due, push_until_settled
from runsadmin.services.edits.pushing import push, push_within, reconcile
from runsadmin.services.edits.recording import lock_runs, record
from runsadmin.services.edits.restored import (
    MAX_AWAITING_RELEASE,
    count_awaiting_release,
    release,
    release_all,
    that_await_release,
)
from runsadmin.services.edits.undo import undo_patch
from runsadmin.services.edits.waits import Wait, waits_in_runs, waits_of
