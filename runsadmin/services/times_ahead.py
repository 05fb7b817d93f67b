"""Corrects stored times that are too far ahead, which shows that the database's clock was set back.

Otherwise, what they delay would wait until the clock has caught up.
"""

import datetime as dt
import logging
from collections.abc import Iterator
from typing import Any

from django.db.models import Q, QuerySet

from runsadmin import conf
from runsadmin.models import BulkEdit, BulkEditStatus, ConnectionState, Edit, EditStatus, Export, Sync, export, sync
from runsadmin.models.edit import IN_FLIGHT
from runsadmin.services import clock
from runsadmin.services.connections import INTERACTIVE_SHARE
from runsadmin.services.edits.claims import LAST_DEADLY_PAUSE, MAX_DEATHS, SLACK

logger = logging.getLogger(__name__)

# No back-off, requested pause, or pause between two probes is longer.
LONGEST_PAUSE = dt.timedelta(minutes=5)
# No claim of a sync, an export or a plan is longer. Those of edits depend on timeouts.
LONGEST_LEASE = dt.timedelta(minutes=1)
MARGIN = dt.timedelta(minutes=1)
# No caller takes more slots of the rate limit at once, apart from blocks of bulk edits, which last less than a second.
_MAX_SLOTS = 4


def correct() -> int:
    """Makes due what waits for such a time, and shortens such claims. Returns how many rows it changed."""
    now, count = clock.now(), 0
    for rows, name, longest, corrected in _limits(now):
        ahead = rows.filter(**{f"{name}__gt": now + longest + MARGIN})
        if ahead.exists():  # This does not take SQLite's write lock.
            count += ahead.update(**{name: corrected})
    if count:
        logger.warning("The clock was set back. The times of %s rows that would have waited were corrected.", count)
    return count


def _limits(now: dt.datetime) -> Iterator[tuple["QuerySet[Any]", str, dt.timedelta, dt.datetime]]:
    """Rows, the name of a time, how far ahead it may be, and its corrected value."""
    timeout = max((connection.timeout for connection in conf.connections().values()), default=dt.timedelta())
    claim = max(2 * timeout + SLACK, LONGEST_LEASE)
    unknown = Edit.objects.filter(status=EditStatus.UNKNOWN)
    yield Edit.objects.filter(status=EditStatus.PENDING), "next_attempt_at", LONGEST_PAUSE, now
    few_deaths = Q(deaths=None) | Q(deaths__lt=MAX_DEATHS)
    yield unknown.filter(few_deaths), "next_attempt_at", LONGEST_PAUSE + timeout + conf.settling_time(), now
    yield unknown, "next_attempt_at", LAST_DEADLY_PAUSE, now
    # The write has the whole settling time from now on to arrive.
    yield Edit.objects.filter(status__in=IN_FLIGHT), "sent_at", dt.timedelta(), now
    for claimed in (
        Edit.objects.filter(status__in=IN_FLIGHT),
        BulkEdit.objects.filter(status=BulkEditStatus.PLANNING),
        Sync.objects.filter(status__in=sync.UNFINISHED),
        Export.objects.filter(status__in=export.UNFINISHED),
    ):
        # A process that is alive has this long to renew its claim, or to end its requests.
        yield claimed, "claimed_until", max(claim, LONGEST_PAUSE), now + claim
    for connection in conf.connections().values():
        state = ConnectionState.objects.filter(alias=connection.alias)
        yield state, "not_before", LONGEST_PAUSE, now
        yield state, "next_probe_at", LONGEST_PAUSE, now
        if connection.requests_per_minute:
            slots = _MAX_SLOTS * connection.interval / INTERACTIVE_SHARE
            yield state, "interactive_free_at", LONGEST_PAUSE + slots, now
            yield state, "background_free_at", LONGEST_PAUSE + slots, now
