"""Bulk edits: planned as one edit for each run, shown, applied, followed, undone.

`selecting` chooses the runs and freezes them. `planning` makes an edit of each, in the background. `applying` is what
people do with a plan, and what brings a bulk edit from one status to the next. `progress` counts.
"""

from runsadmin.services.bulk_edits.applying import (
    advance_statuses,
    apply,
    cancel,
    check_may_apply,
    pause,
    resume,
    retry,
)
from runsadmin.services.bulk_edits.planning import (
    LONGEST_WAIT,
    MOST_RUNS,
    continue_planning,
    plan,
    plan_undo,
    waiting_plans,
)
from runsadmin.services.bulk_edits.progress import Progress, changed_since, progress, waiting, waiting_in_words
from runsadmin.services.bulk_edits.selecting import Selection, by_ids, by_search, matching

__all__ = [
    "LONGEST_WAIT",
    "MOST_RUNS",
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
    "matching",
    "pause",
    "plan",
    "plan_undo",
    "progress",
    "resume",
    "retry",
    "waiting",
    "waiting_in_words",
    "waiting_plans",
]
