"""Syncs: passes over threads that read runs into the mirror.

A pass reads every thread's pages, newest first. An *incremental* one stops at the thread's watermark and then
refreshes the runs that were still active; a *full* one reads everything. The row stores the position with every page,
so an interrupted pass continues there. A bad thread or run never stops a pass; it is recorded as an error of the pass.

`passes` starts, pauses and cancels passes; `running` works on one; `reading` reads one thread, `storing` writes its
pages, and `unlisted` fetches what they did not show. `errors` records what could not be read. All of them use a
`claimed.ClaimedSync`. `upstream/paging.py` decides what the pages prove.
"""

from runsadmin.services.syncs.passes import cancel, claim_waiting, pause, resume, start, start_due
from runsadmin.services.syncs.running import run

__all__ = ["cancel", "claim_waiting", "pause", "resume", "run", "start", "start_due"]
