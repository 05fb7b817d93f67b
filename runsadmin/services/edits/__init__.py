"""Edits: recorded, pushed, reconciled, retried, cancelled, undone.

An edit is a row before it is a request. No transaction is open during a request, and every change of a status is a
conditional UPDATE that requires the claim's token: a process that lost its claim changes nothing.

`recording` writes the edit. `claims` gives one process the right to work on it. `pushing` takes one edit from its claim
to its outcome: `deciding` (what to send) and `classifying` (what a response means) are functions of values, `outcomes`
are values, and `storing` writes them. `reconciling` checks an unknown write. `batch` does all of it for many edits at
once, and `due` for all that are due. `waits` says what an edit waits for. `actions` is what people do with one later.
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
from runsadmin.services.edits.pushing import push, push_within
from runsadmin.services.edits.reconciling import reconcile
from runsadmin.services.edits.recording import record
from runsadmin.services.edits.undo import undo_patch
from runsadmin.services.edits.waits import Wait, waits_of

__all__ = [
    "EditAction",
    "Wait",
    "cancel",
    "conflicts",
    "has_backlog",
    "permitted_actions",
    "process_due",
    "push",
    "push_until_settled",
    "push_within",
    "reconcile",
    "record",
    "release_expired",
    "resolve",
    "retry",
    "try_again",
    "undo",
    "undo_patch",
    "waits_of",
]
