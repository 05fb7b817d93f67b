"""The manifest of an export: what was exported and when, and what may be missing in it."""

from collections.abc import Iterable
from typing import Any

from django.db.models import OuterRef, QuerySet, Subquery

from runsadmin.metadata import MetadataState
from runsadmin.models import Export, Sync, SyncError, Thread
from runsadmin.models.sync import UNFINISHED
from runsadmin.services import clock, run_columns

MAX_LISTED = 100


class Tally:
    """Counts runs while they are exported, among them those whose state is in doubt."""

    def __init__(self) -> None:
        self.rows = self.missing = self.unknown_metadata = self.to_refresh = 0

    def add(self, runs: Iterable[Any]) -> None:
        for run in runs:
            self.rows += 1
            self.missing += run.missing_since is not None
            self.unknown_metadata += run.metadata_state != MetadataState.KNOWN
            self.to_refresh += run.needs_refresh_since is not None


def manifest_of(export: Export, tally: Tally) -> dict[str, Any]:
    """The manifest of an export that ends now.

    It lists threads of all connections, even of those that are no longer configured, since nobody knows whether their
    missing runs would match the search.
    """
    return {
        "search": None if export.selected else export.query,
        "time_zone": export.tz,
        "format": export.format,
        "columns": [column.name for column in run_columns.parse(export.columns)] if export.columns else None,
        "began_at": (export.started_at or export.created_at).isoformat(),
        "finished_at": clock.now().isoformat(),
        "runs": tally.rows,
        "incomplete": {
            "runs_missing_upstream": tally.missing,
            "runs_with_unknown_metadata": tally.unknown_metadata,
            "runs_waiting_for_refresh": tally.to_refresh,
            "threads_never_read_fully": _listed(_never_read_fully()),
            "threads_with_sync_errors": _listed(_with_sync_errors()),
        },
    }


def _listed(threads: QuerySet[Thread]) -> dict[str, Any]:
    """The number of threads, and the first of them."""
    first = threads.order_by("connection", "upstream_id").values_list("connection", "upstream_id")[:MAX_LISTED]
    return {"count": threads.count(), "first": [{"connection": alias, "thread": id} for alias, id in first]}


def _never_read_fully() -> QuerySet[Thread]:
    return Thread.objects.filter(tracked=True, fully_checked_at=None)


def _with_sync_errors() -> QuerySet[Thread]:
    """The threads with errors in the last pass over all threads of their connection, or in a later one."""
    passes = Sync.objects.filter(connection=OuterRef("sync__connection"), thread=None).exclude(status__in=UNFINISHED)
    latest = Subquery(passes.order_by("-pk").values("pk")[:1])
    errors = SyncError.objects.exclude(thread=None).filter(sync__gte=latest)
    return Thread.objects.filter(pk__in=errors.values("thread"))
