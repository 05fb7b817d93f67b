"""Fetches the runs that are marked for a refresh, in the background."""

import datetime as dt
import logging
import math
import time
from threading import Event

from runsadmin.db_errors import is_database_failure
from runsadmin.errors import ConnectionHeld, NoSlot, UpstreamError
from runsadmin.models import Run
from runsadmin.services import clock, connections, runs

logger = logging.getLogger(__name__)

# The pause after a failed refresh of a run.
AGAIN_AFTER = dt.timedelta(minutes=1)


def refresh_all(*, until: float = math.inf, stopping: Event | None = None, limit: int = 100) -> int:
    """Fetches runs that are marked for a refresh, the oldest marks first. Returns how many were fetched.

    Ends when `time.monotonic()` reaches `until`. A run that cannot be fetched is tried again later, after the others.
    """
    count = 0
    failing: set[str] = set()
    marked = Run.objects.filter(needs_refresh_since__lte=clock.now(), connection__in=connections.available_aliases())
    for run in marked.select_related("thread").order_by("needs_refresh_since")[:limit]:
        if time.monotonic() >= until or (stopping is not None and stopping.is_set()):
            break
        if run.connection in failing:  # Other connections should not wait for this one.
            continue
        try:
            runs.fetch(run)
            count += 1
        except (NoSlot, ConnectionHeld):
            failing.add(run.connection)
        except UpstreamError as error:
            _postpone(run)
            if error.is_outage or error.slow_down:
                failing.add(run.connection)
        except Exception as error:
            if is_database_failure(error):
                raise
            _postpone(run)
            logger.exception("The run %s could not be refreshed.", run)
    return count


def _postpone(run: Run) -> None:
    again_at = clock.now() + AGAIN_AFTER
    Run.objects.filter(pk=run.pk, needs_refresh_since__isnull=False).update(needs_refresh_since=again_at)
