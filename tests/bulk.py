"""What tests of bulk edits share."""

import time

from runsadmin.models import BulkEdit
from runsadmin.services import bulk_edits, edits


def bring_to_an_end(bulk_edit: BulkEdit, seconds: float = 30) -> BulkEdit:
    """What workers do, until it no longer goes on."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        edits.settle(until=deadline)
        bulk_edits.look_after()
        bulk_edit.refresh_from_db()
        if not bulk_edit.is_going_on:
            return bulk_edit
        time.sleep(0.05)
    raise TimeoutError
