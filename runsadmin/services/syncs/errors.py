"""Records what a pass could not read."""

from collections.abc import Iterable

from runsadmin.errors import RunsAdminError
from runsadmin.models import SyncError, Thread
from runsadmin.services.syncs.claimed import ClaimedSync
from runsadmin.upstream.paging import ThreadReading
from runsadmin.upstream.records import RunRecord

MAX_FIELDS_REPORTED = 50


def record_once(claimed: ClaimedSync, thread: Thread, reading: ThreadReading, message: str, run_id: str = "") -> None:
    """Records an error unless it is a duplicate: a thread that is read in both orders shows its errors twice."""
    if message not in reading.reported:
        reading.reported.append(message)
        claimed.record_error(message, thread=thread, run_id=run_id)


def record_not_fetched(
    claimed: ClaimedSync, thread: Thread, reading: ThreadReading, run_id: str, error: RunsAdminError
) -> None:
    record_once(claimed, thread, reading, f"The run {run_id} could not be fetched: {error}", run_id)


def record_other_thread(claimed: ClaimedSync, thread: Thread, reading: ThreadReading, run_id: str) -> None:
    owner = Thread.objects.get(runs__connection=thread.connection, runs__upstream_id=run_id)
    message = (
        f"The run {run_id} is listed in the thread {thread} but belongs to the thread {owner}, where it stays. "
        "Run ids must be unique on a connection."
    )
    record_once(claimed, thread, reading, message, run_id)


def record_unreadable_fields(claimed: ClaimedSync, thread: Thread, records: Iterable[RunRecord]) -> None:
    """Records each field once per pass, since a server formats it the same way in all runs."""
    for record in records:
        for name in record.unreadable:
            if name in claimed.unreadable_fields or len(claimed.unreadable_fields) == MAX_FIELDS_REPORTED:
                continue
            claimed.unreadable_fields.add(name)
            message = f"The field {name[:100]} could not be read"
            if not SyncError.objects.filter(sync=claimed.sync, message__startswith=message).exists():
                shown = record.shown(name)
                message += f" in every run: in {record.upstream_id} it is {shown}. Such a value is shown as unknown."
                claimed.record_error(message, thread=thread, run_id=record.upstream_id)
