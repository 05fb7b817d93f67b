"""Edits: recorded, pushed, reconciled, retried, taken back, undone.

An edit is a row before it is a request. No transaction is open while the network is waited for, and every change of
an edit's status is a conditional UPDATE that needs the claim's token: whoever lost the claim changes nothing.

`recording` writes the intent down. `claims` gives one process the right to bring it on. `pushing` looks, merges and
sends; `reconciling` finds out what became of a write whose answer was lost; each ends in one of the `outcomes`.
`many` does both for many edits at once, and `settling` for all whose time has come. `waits` says what an edit waits
for; `turns` and `active_runs` are two of those waits. `decisions` is what people do with an edit afterwards.
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
from runsadmin.services.edits.undo import undoing
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
    "undoing",
    "waits_of",
]
