"""Bulk edits: one patch for many runs, planned as one edit per run, then applied, and undone if necessary.

`selecting` selects the runs and freezes the selection. `planning` makes an edit for each, in the background.
`permitted` says which actions a bulk edit allows now, and `actions` has them. `progress` counts its edits.
"""

from runsadmin.services.bulk_edits.actions import advance_statuses, apply, cancel, pause, resume, retry
from runsadmin.services.bulk_edits.drafts import read_draft, save_draft
from runsadmin.services.bulk_edits.permitted import (
    BulkEditAction,
    is_expired,
    needed_permissions,
    permitted_actions,
    possible_actions,
)
from runsadmin.services.bulk_edits.planning import (
    LONGEST_WAIT,
    MOST_RUNS,
    check_may_apply,
    continue_planning,
    plan,
    plan_undo,
    waiting_plans,
)
from runsadmin.services.bulk_edits.progress import Progress, changed_since, progress, waiting, waiting_in_words
from runsadmin.services.bulk_edits.selecting import Selection, by_ids, by_search, select_all

__all__ = [
    "LONGEST_WAIT",
    "MOST_RUNS",
    "BulkEditAction",
    "Progress",
    "Selection",
    "advance_statuses",
    "apply",
    "by_ids",
    "by_search",
    "cancel",
    "changed_since",
    "check_may_apply",
    "continue_planning",
    "is_expired",
    "needed_permissions",
    "pause",
    "permitted_actions",
    "plan",
    "plan_undo",
    "possible_actions",
    "progress",
    "read_draft",
    "resume",
    "retry",
    "save_draft",
    "select_all",
    "waiting",
    "waiting_in_words",
    "waiting_plans",
]
