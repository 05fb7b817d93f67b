"""Compresses the runs that version 0.1.0 stored, in the background, and marks the runs that are in the API's format."""

import time
from threading import Event

from django.db import transaction

from runsadmin import lenient_json
from runsadmin.models import CompressionState, Run, stored_json
from runsadmin.models.bulk_sql import update_rows
from runsadmin.models.stored_json import Unpacked
from runsadmin.upstream.records import RunRecord

BATCH = 200
# In seconds. Other processes can write between two batches: SQLite has a single write lock.
PAUSE = 0.02


def compress_stored(*, until: float, stopping: Event) -> int:
    """Compresses until `time.monotonic()` reaches `until`. Returns how many runs were compressed."""
    count = 0
    while time.monotonic() < until and (compressed := _compress_batch()) is not None:
        count += compressed
        if stopping.wait(PAUSE):
            break
    return count


def _compress_batch() -> int | None:
    """Compresses the next runs, and stores in the same transaction how far it got. Returns None if no run is left."""
    if not CompressionState.objects.exists():  # This does not take SQLite's write lock.
        return None
    with transaction.atomic():
        state = CompressionState.objects.select_for_update().first()
        if state is None:
            return None
        # A locked run is being written by another process, which usually compresses it. If not, it stays as it is.
        rest = Run.objects.select_for_update(skip_locked=True).filter(pk__gt=state.done, pk__lte=state.last)
        runs = list(rest.order_by("pk").values_list("pk", "upstream_id", "raw")[:BATCH])
        records = [RunRecord(lenient_json.loads(raw), upstream_id) for _, upstream_id, raw in runs]
        packed = stored_json.pack([Unpacked(row[2], each.shareable) for row, each in zip(runs, records, strict=True)])
        # The version stays the same, since the content does.
        update_rows(
            Run,
            [
                # Text that is not as we encode it may not be strict JSON.
                (columns | {"in_api_format": record.in_api_format and record.raw == raw}, {"id": pk})
                for (pk, _, raw), record, columns in zip(runs, records, packed, strict=True)
            ],
        )
        if not runs:
            state.delete()
            return None
        state.done = runs[-1][0]
        state.save()
    return len(runs)
