"""Bulk edits: planned as one edit for each run, shown, applied, followed, undone.

`selecting` chooses the runs and freezes them. `planning` makes an edit of each, in the background. `applying` is what
people do with a plan, and what brings a bulk edit from one status to the next. `progress` counts.
"""

from runsadmin.services.bulk_edits.applying import apply, cancel, check_may_apply, look_after, pause, resume, retry
from runsadmin.services.bulk_edits.planning import (
    LONGEST_WAIT,
    MOST_RUNS,
    find_waiting,
    go_on_planning,
    plan,
    plan_undo,
)
from runsadmin.services.bulk_edits.progress import Progress, changed_since, progress, waiting, waiting_in_words
from runsadmin.services.bulk_edits.selecting import Chosen, by_ids, by_search, matching

__all__ = [
    "LONGEST_WAIT",
    "MOST_RUNS",
    "Chosen",
    "Progress",
    "apply",
    "by_ids",
    "by_search",
    "cancel",
    "changed_since",
    "check_may_apply",
    "find_waiting",
    "go_on_planning",
    "look_after",
    "matching",
    "pause",
    "plan",
    "plan_undo",
    "progress",
    "resume",
    "retry",
    "waiting",
    "waiting_in_words",
]
