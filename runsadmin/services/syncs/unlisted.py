"""Fetches runs that the pages of a thread did not show: active ones, and those that may be gone."""

from functools import partial

from django.db.models import F

from runsadmin.errors import ConnectionHeld, InvalidId, NoSlot, NotFound, UpstreamError
from runsadmin.models import Run, Thread
from runsadmin.models.run import ACTIVE
from runsadmin.services import gateway, runs
from runsadmin.services.syncs import errors
from runsadmin.services.syncs.claimed import ClaimedSync
from runsadmin.services.syncs.retrying import with_retry
from runsadmin.upstream.paging import ThreadReading


def fetch_unlisted(claimed: ClaimedSync, thread: Thread, reading: ThreadReading) -> bool:
    """Called after the last page: fetches unshown active runs and, if all pages were read, all unshown runs.

    Returns whether more pages have to be read, because one of these runs exists and the list should have shown it.
    """
    known = Run.objects.filter(thread=thread, missing_since=None, received_at__lt=reading.began_at)
    unseen = known if reading.shows_everything else known.filter(status__in=ACTIVE)
    for run in unseen.select_related("thread").defer("raw").iterator():
        if not reading.leaves_out(run.upstream_id):
            continue
        exists = _fetch(claimed, thread, reading, run)
        reading.fetched[run.upstream_id] = None
        if exists and reading.shows_everything and reading.read_on():
            return True
        claimed.check_time()
    return False


def _fetch(claimed: ClaimedSync, thread: Thread, reading: ThreadReading, run: Run) -> bool:
    """Fetches the run. Returns whether upstream has it."""
    try:
        timed = with_retry(thread, partial(gateway.fetch_run, thread, run.upstream_id))
        stored = runs.store_one(run, timed)
    except NotFound as error:
        if reading.is_complete:
            if not runs.find_reach(run, error):
                raise ConnectionHeld(str(error)) from error
            claimed.write(runs_updated=F("runs_updated") + 1)
        return False
    except (ConnectionHeld, NoSlot):
        raise
    except (UpstreamError, InvalidId) as error:
        claimed.count_failure(error)
        errors.record_not_fetched(claimed, thread, reading, run.upstream_id, error)
        return False
    claimed.write(runs_updated=F("runs_updated") + stored.updated, runs_seen=F("runs_seen") + 1)
    claimed.failures = 0
    return True
