"""Stores the runs of a page. Runs that the list does not show completely are fetched first."""

import datetime as dt

from runsadmin.errors import ConnectionHeld, InvalidId, NoSlot, UpstreamError
from runsadmin.metadata import MetadataState
from runsadmin.services import connections, runs
from runsadmin.services.gateway import TimedResponse
from runsadmin.services.runs import Difference, Stored
from runsadmin.services.syncs.claimed import ClaimedSync
from runsadmin.upstream.records import Page, RunRecord

# A list from a replica may show a run as it was this long ago.
LIST_LAG = dt.timedelta(minutes=2)


def store_page(claimed: ClaimedSync, timed: TimedResponse[Page], difference: Difference) -> tuple[Page, Stored]:
    """Stores the part of the page that there is time for. Returns this part, and what was written at once.

    A page of which no run has to be fetched is kept, to be stored together with others.
    """
    page, reading, thread = timed.value, claimed.reading, claimed.thread
    wanted = _to_fetch(claimed, timed, difference)
    claimed.record_unreadable_fields(page.records)
    if not wanted and not any(map(_hides_metadata, page.records)):
        reading.note_confirmed(page.ids, [record.upstream_id for record in page.records])
        claimed.pending.add(difference)
        return page, Stored()
    claimed.write()
    page, fetched, failed = _fetch(claimed, page, wanted)
    kept = [  # The other fields of a run are useful even without its metadata.
        record
        for record in page.records
        if (record.upstream_id in failed if _hides_metadata(record) else record.upstream_id not in wanted)
    ]
    records = [one.value for one in fetched]
    claimed.record_unreadable_fields(records)
    reading.note_confirmed(page.ids, [one.upstream_id for one in (*kept, *records) if not _hides_metadata(one)])
    listed = runs.compare(((thread, timed.with_value(record)) for record in kept), of_list=True).write()
    one_by_one = runs.compare((thread, one) for one in fetched).write()
    return page, listed + one_by_one


def _fetch(claimed: ClaimedSync, page: Page, wanted: set[str]) -> tuple[Page, list[TimedResponse[RunRecord]], set[str]]:
    """The part of the page that there was time for, the fetched runs, and the ids of runs that could not be fetched."""
    fetched: list[TimedResponse[RunRecord]] = []
    failed: set[str] = set()
    has_progress = False  # Whether the next task would begin further down the page than this task did.
    reading = claimed.reading
    for run_id in page.ids:
        if run_id not in wanted or reading.has_shown(run_id):  # A run that an earlier page has shown has been fetched.
            has_progress = has_progress or run_id not in reading.current.ids
            continue
        if has_progress and claimed.is_time_up:
            return page.before(run_id), fetched, failed
        try:
            fetched.append(claimed.fetch_run(run_id))
        except NoSlot:
            if not has_progress:
                raise
            return page.before(run_id), fetched, failed
        except ConnectionHeld:
            raise
        except (UpstreamError, InvalidId) as error:
            claimed.record_not_fetched(run_id, error)
            failed.add(run_id)
        has_progress = has_progress or run_id not in reading.current.ids
        claimed.write()
    return page, fetched, failed


def _hides_metadata(record: RunRecord) -> bool:
    return record.metadata_state == MetadataState.NOT_SHOWN


def _to_fetch(claimed: ClaimedSync, timed: TimedResponse[Page], difference: Difference) -> set[str]:
    """The ids of the runs whose metadata the page does not show, or that it may show in an old state.

    Of the runs without metadata, an incremental pass fetches only those that are new, changed or marked.
    """
    not_shown, recent = set(), set()
    for record in timed.value.records:
        row = difference.known.get(record.upstream_id)
        if record.upstream_id in difference.unchanged:
            continue
        if row is None:
            if _hides_metadata(record):
                not_shown.add(record.upstream_id)
        elif row["thread_id"] != claimed.thread.pk:
            continue
        elif _hides_metadata(record):
            is_changed = not record.is_part_of(difference.mirrored[record.upstream_id])
            if claimed.is_full or is_changed or row["missing_since"] or row["needs_refresh_since"]:
                not_shown.add(record.upstream_id)
        elif difference.changes(record.upstream_id) and row["received_at"] > timed.requested_at - LIST_LAG:
            recent.add(record.upstream_id)
    if recent and not connections.lists_are_fresh(claimed.thread.connection):
        return not_shown | recent
    return not_shown
