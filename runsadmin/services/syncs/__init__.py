"""Syncs: passes over threads that read runs into the mirror.

A pass reads every thread's pages, newest first. *Incremental* stops at the thread's watermark and then refreshes the
runs that were still active; *full* reads all. The row holds the place to continue from, written with every page, so an
interrupted pass continues there. One bad thread or run never stops a pass; it is recorded as an error of the pass.

`passes` starts, pauses and cancels; `running` works on a pass; `reading` reads one thread, `storing` writes its pages,
and `unlisted` fetches what they did not show. `errors` records what could not be read. All of them work through a
`claimed.ClaimedSync`. What pages prove is decided in `upstream/paging.py`.
"""

from runsadmin.services.syncs.passes import cancel, claim_waiting, pause, resume, start, start_due
from runsadmin.services.syncs.running import run

__all__ = ["cancel", "claim_waiting", "pause", "resume", "run", "start", "start_due"]
