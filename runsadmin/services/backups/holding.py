"""Makes sure that nothing is sent after a backup was restored, until users decide about it.

Upstream may have newer values than the backup: edits that were sent after it, and changes by others. Therefore nothing
is sent until a user has released the connection, and each edit that had not ended. A released edit is pushed like any
other. Its base says for which values it was made, so a newer value is a conflict. If upstream already has its change,
the edit becomes applied without a write.
"""

import datetime as dt
from collections.abc import Iterator

from runsadmin import conf
from runsadmin.metadata import Metadata
from runsadmin.models import BulkEdit, BulkEditStatus, Edit, EditStatus, Thread, Worker
from runsadmin.models.bulk_edit import IN_PROGRESS
from runsadmin.models.edit import IN_FLIGHT, UNSETTLED
from runsadmin.services import connections
from runsadmin.services.edits import claims


def hold_everything(made_at: dt.datetime) -> int:
    """Holds all connections, and the edits that have not ended. Returns how many edits wait.

    Only for a database that no other process uses.
    """
    Worker.objects.all().delete()  # They worked with the database that was backed up.
    claims.release(Edit.objects.filter(status__in=IN_FLIGHT))
    for edit, base in list(_missing_bases()):
        Edit.objects.filter(pk=edit).update(base=base)
    detail = f"A backup of {made_at:%Y-%m-%d %H:%M:%S} UTC was restored. Check the edits, then resume or cancel."
    BulkEdit.objects.filter(status__in=IN_PROGRESS).transition_to(BulkEditStatus.PAUSED, detail=detail)
    BulkEdit.objects.filter(status=BulkEditStatus.PLANNING).update(apply_when_planned=False)
    # The edits of bulk edits wait because their bulk edits are paused.
    Edit.objects.filter(bulk_edit=None, status__in=UNSETTLED).update(restored_from=made_at)
    with_threads = Thread.objects.order_by().values_list("connection", flat=True).distinct()
    connections.hold_restored({*conf.upstreams(), *with_threads}.difference(conf.archives()), made_at)
    return Edit.objects.filter(status__in=UNSETTLED).count()


def _missing_bases() -> Iterator[tuple[int, Metadata]]:
    """A base for each edit that may still be sent and has none: what its run had when the backup was made.

    If several edits of a run wait, each expects the values that the one before it leaves.
    """
    waiting = Edit.objects.filter(status__in=(*UNSETTLED, EditStatus.FAILED))
    of_runs = (
        waiting.filter(run__in=waiting.filter(base=None).values("run")).select_related("run").order_by("run", "pk")
    )
    run, known = 0, Metadata()
    for edit in of_runs.order_by("run", "pk").iterator(chunk_size=500):
        if edit.run_id != run:
            run, known = edit.run_id, edit.run.metadata
        base = edit.base
        if base is None:
            base = known if edit.before is None else edit.before
            yield edit.pk, base
        if edit.status != EditStatus.FAILED:
            known = edit.patch.apply(base)
