"""Bulk edits: one patch for many runs, planned as one edit per run, then applied, and undone if necessary.

`selecting` selects the runs and freezes the selection. `planning` makes an edit for each run, in the background.
`actions` contains the actions of users, and determines which of them are possible. `progress` counts the edits.
"""

from runsadmin.services.bulk_edits.actions import (
    BulkEditAction,
    advance_statuses,
    apply,
    cancel,
    is_expired,
    pause,
    permitted_actions,
    possible_actions,
    resume,
    retry,
)
from runsadmin.services.bulk_edits.planning import (
    LONGEST_WAIT,
    MAX_RUNS,
    check_may_apply,
    continue_planning,
    plan,
    plan_undo,
    waiting_plans,
)
from runsadmin.services.bulk_edits.progress import Progress, changed_since, progress, waiting, waiting_in_words
from runsadmin.services.bulk_edits.selecting import (
    Selection,
    by_ids,
    by_search,
    read_draft,
    save_draft,
    select_all,
)
