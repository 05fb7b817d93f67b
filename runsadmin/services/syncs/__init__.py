"""Syncs: passes over threads that read runs into the mirror.

A pass reads every thread's pages, newest first. An *incremental* one stops at the thread's watermark and then
refreshes the runs that were still active; a *full* one reads everything. Several pages are stored at once, together
with the position, so an interrupted pass continues there. A bad thread or run never stops a pass; it is recorded as an
error of the pass.

`passes` starts and pauses passes and works on them; `reading` reads one thread, and `storing` writes its pages. Both
use a `claimed.ClaimedSync`. `upstream/paging.py` decides what the pages prove.
"""

from runsadmin.services.syncs.passes import (
    cancel,
    claim_waiting,
    pause,
    possible_actions,
    resume,
    run,
    start,
    start_due,
    wait_of,
)
