"""Reads one thread: its pages, and the runs that they do not show."""

import datetime as dt

from django.db.models import F

from runsadmin import conf
from runsadmin.db_errors import is_database_failure
from runsadmin.errors import (
    ConnectionHeld,
    Forbidden,
    InvalidId,
    NoSlot,
    NotFound,
    Rejected,
    TooLarge,
    UpstreamError,
)
from runsadmin.models import Run, Thread
from runsadmin.models.run import ACTIVE
from runsadmin.services import clock, gateway, probes, runs
from runsadmin.services.clock import ClockBounds
from runsadmin.services.gateway import TimedResponse
from runsadmin.services.runs import Difference
from runsadmin.services.syncs.claimed import ClaimedSync, Interrupted, TimeUp
from runsadmin.services.syncs.storing import store_page
from runsadmin.upstream.paging import REPEATED, SKIPPED, ListReading, ThreadReading
from runsadmin.upstream.records import Page

# Statuses with which servers refuse a `limit` above their maximum.
LIMIT_REFUSALS = (400, 413, 422)


def read_thread(claimed: ClaimedSync, thread: Thread) -> None:
    """Reads a thread's pages and then what they did not show. Errors of the thread are recorded, internal ones as well.

    Raises ConnectionHeld, NoSlot, Interrupted or TimeUp, or an error of the database.
    """
    claimed.thread = thread
    try:
        claimed.reading = _resume(claimed)
        try:
            _read_pages(claimed)
            while _fetch_unlisted(claimed):
                _read_pages(claimed)
            _finish_thread(claimed)
        except (ConnectionHeld, NoSlot):
            raise
        except (UpstreamError, InvalidId) as error:
            _handle_error(claimed, error)
    except (ConnectionHeld, NoSlot, Interrupted, TimeUp):
        claimed.save_reading()
        raise
    except Exception as error:
        if is_database_failure(error):
            raise
        claimed.record_crash(error)


def _handle_error(claimed: ClaimedSync, error: UpstreamError | InvalidId) -> None:
    """Records an error of the thread. Raises ConnectionHeld if it concerns the whole connection."""
    thread, message = claimed.thread, "Not all of this thread was read"
    if isinstance(error, UpstreamError) and probes.is_needed(error):
        conclusion = probes.find_out(thread, thread.upstream_id, error)
        if conclusion.effect.hold:
            raise ConnectionHeld(conclusion.effect.detail) from error
        if conclusion.run_is_missing:
            runs.mark_missing(threads=[thread.pk])
            message = "Upstream has no thread with this id"
        elif isinstance(error, NotFound):
            message = "The server returned 404 for an unknown reason"
    claimed.record_error(f"{message}: {error}")


def _resume(claimed: ClaimedSync) -> ThreadReading:
    """The reading of this thread so far, if the pass was interrupted in the middle of it."""
    sync = claimed.sync
    if sync.reading:
        reading = ThreadReading.load(sync.reading)
        if (reading.current.cursor, reading.current.oldest_first) == (sync.cursor, sync.oldest_first):
            return reading
    if not sync.cursor or sync.oldest_first:
        return ThreadReading(began_at=clock.now())
    # A process died while reading. The runs that it read are in the mirror, but it is not known which ones they are.
    known = dict.fromkeys((sync.first_run, sync.cursor))
    return ThreadReading(clock.now(), ListReading(cursor=sync.cursor, ids=known), from_the_start=False)


def _read_pages(claimed: ClaimedSync) -> None:
    reading = claimed.reading
    while not reading.is_over:
        pages = reading.current
        if len(pages.ids) >= (limit := conf.max_runs_per_thread()):
            pages.stop(f"It shows more than {limit:,} runs. If it has that many, raise RUNSADMIN_MAX_RUNS_PER_THREAD.")
            return
        timed = _next_page(claimed)
        counts = {} if timed is None else _take_page(claimed, timed)
        if reading.oldest is None and not reading.reached_watermark:
            is_known_to_fail = claimed.connection.oldest_first and not pages.ended
            if pages.doubt or is_known_to_fail:
                reading.read_oldest_first()
        claimed.note(counts, **claimed.position)
        if not reading.is_over:
            claimed.check_time()
    if reading.oldest is not None and reading.newest.doubt in (REPEATED, SKIPPED) and reading.is_complete:
        claimed.remember(oldest_first=True)


def _next_page(claimed: ClaimedSync) -> TimedResponse[Page] | None:
    """The next page, with a smaller limit if it was too large. None if it cannot be read; `doubt` then says why."""
    pages, thread = claimed.reading.current, claimed.thread
    is_limit_refused = False

    def fetch(bounds: ClockBounds) -> TimedResponse[Page]:
        return gateway.fetch_page(
            thread, bounds, after=pages.cursor, limit=pages.limit, oldest_first=pages.oldest_first
        )

    while not pages.ended:
        pages.limit = pages.limit or claimed.page_limit
        try:
            timed = claimed.retried(fetch)
        except TooLarge as error:
            _handle_too_large(claimed, error)
        except (Rejected, NotFound, Forbidden) as error:
            is_limit_refused = _handle_refused_page(pages, error) or is_limit_refused
        else:
            if is_limit_refused:
                claimed.page_limit = pages.limit
            return timed
    return None


def _handle_too_large(claimed: ClaimedSync, error: TooLarge) -> None:
    """Requests fewer runs, or skips a single run that is too large. If neither is possible, reading ends."""
    pages = claimed.reading.current
    pages.too_large = str(error)
    if pages.limit > 1:
        pages.halve()
    elif pages.skip(error.first_id):
        claimed.record_once(f"The run {error.first_id} could not be read. {error}", error.first_id)
        claimed.write(cursor=pages.cursor)
        claimed.check_time()
    else:
        pages.stop(pages.too_large)


def _handle_refused_page(pages: ListReading, error: Rejected | NotFound | Forbidden) -> bool:
    """Tries another cursor or a smaller limit, or ends the reading. Returns whether the limit seems to be the problem.

    Raises the error if the whole thread is refused.
    """
    if pages.continue_after_last():  # The run at the cursor may be gone.
        return False
    if pages.cursor or pages.oldest_first:  # The thread exists: only this page of it is refused.
        pages.stop(f"The server refused the next page. {error}")
        return False
    if error.http_status not in LIMIT_REFUSALS or pages.limit == 1:
        raise error
    pages.limit //= 2
    return True


def _take_page(claimed: ClaimedSync, timed: TimedResponse[Page]) -> dict[str, int]:
    """Stores a page, or keeps it to be stored with others. Returns the counts to write with the cursor."""
    claimed.log_step("page received")
    thread, reading, page = claimed.thread, claimed.reading, timed.value
    pages = reading.current
    claimed.remember(largest_page=min(max(claimed.connection.largest_page, page.size), 32767))
    if claimed.pending.shares_runs(page, thread):
        claimed.write()  # A run stays in the first thread that shows it.
    difference = runs.compare(((thread, timed.with_value(record)) for record in page.records), of_list=True)
    at_watermark = _shows_watermark(claimed, page, difference)
    page, stored = store_page(claimed, timed, difference)
    claimed.log_step("page taken")

    new = sum(not reading.has_shown(run_id) for run_id in dict.fromkeys(page.ids))
    known = claimed.connection
    pages.take(page, largest_page=known.largest_page, has_more_is_wrong=known.has_more_is_wrong)
    # The limit may have been halved for large runs, which have been read now.
    pages.limit = min(pages.limit * 2, claimed.page_limit)
    if pages.has_more_was_wrong and not pages.oldest_first:
        claimed.remember(has_more_is_wrong=True)
    reading.reached_watermark = (
        at_watermark and thread.watermark in page.ids and pages.in_order and not (pages.oldest_first or pages.doubt)
    )
    for message in page.unreadable:
        claimed.record_once(message)
    for run_id in difference.elsewhere:
        owner = Thread.objects.get(runs__connection=thread.connection, runs__upstream_id=run_id)
        message = (
            f"The run {run_id} is listed in the thread {thread} but belongs to the thread {owner}, where it stays. "
            "Run ids must be unique on a connection."
        )
        claimed.record_once(message, run_id)
    return {
        "pages": 1,
        "runs_seen": new,
        "runs_created": stored.created,
        "runs_updated": stored.updated,
    }


def _shows_watermark(claimed: ClaimedSync, page: Page, difference: Difference) -> bool:
    """Whether the page has the watermark and, from there on, only known runs."""
    watermark = claimed.thread.watermark
    if claimed.is_full or not watermark or watermark not in page.ids:
        return False
    older = page.ids[page.ids.index(watermark) :]
    readable = {record.upstream_id for record in page.records}
    return all(difference.knows(run_id) or run_id in claimed.pending.runs for run_id in older if run_id in readable)


def _fetch_unlisted(claimed: ClaimedSync) -> bool:
    """Called after the last page: fetches the runs that no page has shown.

    Fetches all of them if every page was read, otherwise only the active ones. Returns whether more pages have to be
    read, because one of these runs exists and the list should have shown it.
    """
    thread, reading = claimed.thread, claimed.reading
    known = Run.objects.filter(thread=thread, missing_since=None, received_at__lt=reading.began_at)
    unseen = known if reading.shows_everything else known.filter(status__in=ACTIVE)
    for run in unseen.select_related("thread").defer("raw").iterator():
        if not reading.leaves_out(run.upstream_id):
            continue
        exists = _refetch(claimed, run)
        reading.fetched[run.upstream_id] = None
        if exists and reading.shows_everything and reading.read_on():
            return True
        claimed.check_time()
    return False


def _refetch(claimed: ClaimedSync, run: Run) -> bool:
    """Fetches the run. Returns whether upstream has it."""
    try:
        stored = runs.compare([(claimed.thread, claimed.fetch_run(run.upstream_id))]).write()
    except NotFound as error:
        if claimed.reading.is_complete:
            if not runs.find_reach(run, error):
                raise ConnectionHeld(str(error)) from error
            claimed.write(runs_updated=F("runs_updated") + 1)
        return False
    except (ConnectionHeld, NoSlot):
        raise
    except (UpstreamError, InvalidId) as error:
        claimed.record_not_fetched(run.upstream_id, error)
        return False
    claimed.write(runs_updated=F("runs_updated") + stored.updated, runs_seen=F("runs_seen") + 1)
    return True


def _finish_thread(claimed: ClaimedSync) -> None:
    """Stores what the pass has found out about the thread."""
    thread, reading = claimed.thread, claimed.reading
    checked: dict[str, object] = _confirmed(claimed)
    if reading.is_complete:
        now = clock.now()
        checked |= {"checked_at": now, "missing_since": None}
        if not reading.newest.in_order:
            checked["watermark"] = ""  # Without the order, it is not known which run is the newest.
        elif reading.newest.first:
            checked["watermark"] = reading.newest.first
        if reading.shows_everything:
            checked["fully_checked_at"] = now
    else:
        claimed.record_error(
            f"This thread could not be read to its end. Runs read: {len(reading.shown):,}. {reading.doubt} "
            "What was read is mirrored. Ask the operator of the server to check its pagination."
        )
    if checked:
        claimed.pending.threads[thread.pk] = checked


def _confirmed(claimed: ClaimedSync) -> dict[str, object]:
    """The columns that record how far back in time the list has shown every mirrored run.

    Empty if the list has shown everything, or not even the newest run.
    """
    thread, reading = claimed.thread, claimed.reading
    if reading.shows_everything:
        return {}
    if claimed.pending.differences:
        claimed.write()  # The query below needs the runs that this pass has read.
    confirmed = reading.confirmed
    newest_first = Run.objects.filter(thread=thread).order_by("-created_at", "-pk")
    times: list[dt.datetime] = []
    for upstream_id, created_at in newest_first.values_list("upstream_id", "created_at")[: len(confirmed) + 1]:
        if upstream_id not in confirmed:
            times = [time for time in times if time > created_at]
            break
        times.append(created_at)
    return {"listed_at": reading.began_at, "listed_from": times[-1]} if times else {}
