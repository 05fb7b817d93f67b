"""Erases runs for good, with the values in their edits.

A run without edits is deleted. If it has edits, they remain, and so does a row with its id and the status `purged`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from django.db import OperationalError, connection, transaction
from django.db.models import Exists, F, OuterRef

from runsadmin.metadata import MetadataPatch, MetadataState
from runsadmin.models import BulkEdit, Edit, EditStatus, MetadataPair, Run, SharedText, SyncError
from runsadmin.models.edit import UNSETTLED
from runsadmin.models.run import RunQuerySet
from runsadmin.services import clock, exports
from runsadmin.upstream.records import RunRecord

BATCH = 500
# An edit that may still be sent needs its values.
NOT_ENDED = (EditStatus.PLANNED, *UNSETTLED)


@dataclass(frozen=True)
class Purged:
    """How many rows were erased. `left_out` counts runs that were not erased, by the status of an unfinished edit."""

    runs: int = 0
    pairs: int = 0
    edits: int = 0
    left_out: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: "Purged") -> "Purged":
        left_out = self.left_out + other.left_out
        return Purged(self.runs + other.runs, self.pairs + other.pairs, self.edits + other.edits, left_out)


def select(runs: RunQuerySet) -> list[int]:
    """The primary keys of the given runs, except for those that have already been purged."""
    return list(runs.order_by("pk").exclude(status="purged").values_list("pk", flat=True))


def count(keys: Sequence[int]) -> Purged:
    """What purging these runs would erase. Call it with at most BATCH keys."""
    edits = Edit.objects.filter(run__in=keys, status__in=NOT_ENDED).order_by("pk")
    free, left_out = _free(keys, dict(edits.values_list("run", "status")))
    return Purged(
        len(free),
        MetadataPair.objects.filter(run__in=free).count(),
        Edit.objects.filter(run__in=free).count(),
        left_out,
    )


def purge(keys: Sequence[int]) -> Purged:
    """Purges these runs in one transaction, and deletes the files of exports. Call it with at most BATCH keys."""
    note = "Its file was deleted because runs were purged."
    with transaction.atomic():
        list(Run.objects.select_for_update().filter(pk__in=keys).order_by("pk").values_list("pk"))
        free, left_out = _free(keys, _busy(keys))
        with_edits = set(Edit.objects.filter(run__in=free).values_list("run", flat=True))
        ids = dict(Run.objects.filter(pk__in=free).values_list("pk", "upstream_id"))
        _purge_quotes(free, ids.values())
        pairs, _ = MetadataPair.objects.filter(run__in=free).delete()
        edits = _purge_edits(free)
        for pk in with_edits:
            _empty(pk, ids[pk])
        Run.objects.filter(pk__in=[pk for pk in free if pk not in with_edits]).only("pk").delete()
        if free:
            exports.delete_all(note)
    if free:  # Again, because of exports that were started meanwhile: they have read the old rows.
        exports.delete_all(note)
    return Purged(len(free), pairs, edits, left_out)


def _busy(keys: Sequence[int]) -> dict[int, str]:
    """The runs that cannot be purged, each with the status of one of its edits.

    Locks the edits of all other runs, so that none of them can be retried.
    An edit that another process has locked counts as well, since it may be about to be retried.
    """
    edits = Edit.objects.filter(run__in=keys).order_by("pk")
    ended = edits.exclude(status__in=NOT_ENDED).select_for_update(skip_locked=True)
    locked = set(ended.values_list("pk", flat=True))
    return {run: status for pk, run, status in edits.values_list("pk", "run", "status") if pk not in locked}


def _free(keys: Sequence[int], busy: Mapping[int, str]) -> tuple[list[int], Counter[str]]:
    """Those of the runs that exist and are not busy, and a count of the busy ones by the status of their edit."""
    existing = Run.objects.filter(pk__in=keys).order_by("pk").values_list("pk", flat=True)
    return [pk for pk in existing if pk not in busy], Counter(busy.values())


def _purge_edits(runs: Sequence[int]) -> int:
    edits = Edit.objects.filter(run__in=runs)
    note = f"The values of this edit were purged on {clock.now():%Y-%m-%d}."
    values = {"base": None, "patch": MetadataPatch(), "before": None, "intended": None, "after": None, "detail": note}
    edits.filter(status=EditStatus.FAILED).transition_to(EditStatus.REJECTED, **values)  # Failed edits can be retried.
    return edits.update(**values)


def _purge_quotes(runs: Sequence[int], upstream_ids: Iterable[str]) -> None:
    """Removes texts that quote values of these runs: errors of syncs, and the reasons why bulk edits were paused."""
    upstream_ids = list(upstream_ids)
    SyncError.objects.filter(run_id__in=upstream_ids).delete()
    for bulk_edit in BulkEdit.objects.filter(edits__run__in=runs).exclude(detail="").distinct():
        if any(upstream_id in bulk_edit.detail for upstream_id in upstream_ids):
            BulkEdit.objects.filter(pk=bulk_edit.pk).update(detail="This text was purged with a run that it quoted.")


def _empty(pk: int, upstream_id: str) -> None:
    """Leaves only the ids and the creation time. A response that was requested earlier cannot restore the rest."""
    now = clock.now()
    record = RunRecord({"id": upstream_id, "status": "purged"}, upstream_id)
    Run.objects.filter(pk=pk).update(
        **record.columns, raw=record.raw, in_api_format=False, shared_text=None, digest="",
        metadata_state=MetadataState.NOT_SHOWN.value, version=F("version") + 1, requested_at=now, received_at=now,
        needs_refresh_since=None,
    )  # fmt: skip


def purge_unused_texts() -> int:
    """Deletes shared text that no run has any more. Returns how many there were."""
    unused = SharedText.objects.filter(~Exists(Run.objects.filter(shared_text=OuterRef("pk"))))
    with transaction.atomic():
        # Wait for the transactions that are about to use these texts, and then check again that no run has them.
        keys = list(unused.select_for_update().order_by("pk").values_list("pk", flat=True))
        deleted, _ = unused.filter(pk__in=keys).delete()
    return deleted


# --- SQLite leaves deleted text in unused parts of its file


def overwrite_deleted() -> None:
    """Makes this connection overwrite what it deletes from now on. Only on SQLite."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA secure_delete = ON")


def rewrite_file() -> bool:
    """Removes what earlier writes have left, such as copies from page splits. Returns whether all of it was removed.

    Only on SQLite. Other connections can read while the file is rewritten, but not write.
    """
    if connection.vendor != "sqlite":
        return True
    with connection.cursor() as cursor:
        try:
            cursor.execute("VACUUM")
        except OperationalError:  # Another process is writing, or there is too little space.
            return False
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        is_busy, _, _ = cursor.fetchone()
    return not is_busy
