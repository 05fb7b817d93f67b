"""Works on a pass, thread by thread, for a limited time."""

import datetime as dt
import uuid
from threading import Event

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Greatest

from runsadmin.errors import ConnectionHeld, NoSlot
from runsadmin.models import Sync, SyncStatus, Thread
from runsadmin.services import clock
from runsadmin.services.syncs import reading
from runsadmin.services.syncs.claimed import LEASE, ClaimedSync, Interrupted, TimeUp, logger


def run(sync: Sync, *, until: float, stopping: Event | None = None) -> Sync:
    """Works on a pass, for at least one page, until `time.monotonic()` reaches `until` or `stopping` is set.

    Does nothing while another process works on it. Returns the sync as it is then: if it is still running, there is
    more to do.
    """
    token, now = uuid.uuid4(), clock.now()
    free = Sync.objects.free(now).filter(pk=sync.pk)
    with transaction.atomic():
        free.filter(status=SyncStatus.QUEUED).transition_to(SyncStatus.RUNNING, started_at=now)
        is_claimed = free.filter(status=SyncStatus.RUNNING).update(
            claim_token=token, claimed_until=now + LEASE, detail=""
        )
    if is_claimed:
        claimed = ClaimedSync(Sync.objects.select_related("thread").get(pk=sync.pk), token, until, stopping)
        try:
            _read_threads(claimed)
        finally:
            claimed.row.update(claim_token=None, claimed_until=clock.now() + claimed.retry_after)
    return Sync.objects.get(pk=sync.pk)


def _read_threads(claimed: ClaimedSync) -> None:
    sync = claimed.sync
    try:
        if claimed.is_full and sync.thread_id is None and not (sync.last_thread or sync.cursor):
            claimed.remember(oldest_first=False)  # Start over with newest first: the server may have been fixed.
        while (thread := _next_thread(claimed)) is not None:
            reading.read_thread(claimed, thread)
            claimed.write(
                last_thread=thread.pk,
                cursor="",
                first_run="",
                oldest_first=False,
                reading="",
                threads_done=F("threads_done") + 1,
                threads_total=Greatest(F("threads_total"), F("threads_done") + 1),
            )
            claimed.check_time()
        _finish(claimed)
    except TimeUp:
        pass
    except Interrupted:
        logger.info("Sync %s was interrupted.", sync.pk)
    except ConnectionHeld as error:  # Every thread would fail the same way. After release, it continues automatically.
        claimed.row.update(detail=f"Waiting for the connection: {error}")
    except NoSlot as error:  # The pass continues as soon as the connection has a free slot.
        claimed.retry_after = dt.timedelta(seconds=error.retry_after or 0)


def _next_thread(claimed: ClaimedSync) -> Thread | None:
    sync = Sync.objects.get(pk=claimed.sync.pk)
    if sync.thread_id is not None:
        return claimed.sync.thread if sync.last_thread < sync.thread_id else None
    threads = Thread.objects.filter(connection=sync.connection, tracked=True, pk__gt=sync.last_thread)
    return threads.order_by("pk").first()


def _finish(claimed: ClaimedSync) -> None:
    sync = Sync.objects.get(pk=claimed.sync.pk)
    if not sync.errors_count:
        status = SyncStatus.COMPLETED
    elif sync.errors.values("thread").distinct().count() >= sync.threads_total > 0 and not sync.runs_seen:
        status = SyncStatus.FAILED
    else:
        status = SyncStatus.COMPLETED_WITH_ERRORS
    claimed.row.transition_to(status, detail="", finished_at=clock.now())
