"""The project's schedule with shorter periods, so that recovery from a crash takes only seconds."""

from datetime import timedelta

from runsadmin import tasks
from runsadmin.engine.recurring import Entry

OFTEN = (
    Entry("push_edits", tasks.push_edits, timedelta(seconds=0.3)),
    Entry("refresh_marked_runs", tasks.refresh_marked_runs, timedelta(seconds=1)),
    Entry("advance_bulk_edits", tasks.advance_bulk_edits, timedelta(seconds=1)),
    Entry("find_plans", tasks.find_plans, timedelta(seconds=1)),
    Entry("probe_held_connections", tasks.probe_held_connections, timedelta(seconds=1)),
    Entry("find_syncs", tasks.find_syncs, timedelta(seconds=1)),
    Entry("find_exports", tasks.find_exports, timedelta(seconds=1)),
)

# For workers that push edits in several lanes.
OFTEN_IN_LANES = (
    *OFTEN,
    *(Entry(f"push_edits_{number}", tasks.push_edits, timedelta(seconds=0.3)) for number in range(1, 6)),
)
