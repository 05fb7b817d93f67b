"""The dashboard: health and recent activity. Every query reads a bounded part of an index."""

from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest

from runsadmin.admin import tasks
from runsadmin.admin.base import may
from runsadmin.admin.connections import states
from runsadmin.models import BulkEdit, BulkEditStatus, Edit, EditStatus, Run, RunStatus, Sync
from runsadmin.models.bulk_edit import ENDED
from runsadmin.models.edit import UNSETTLED
from runsadmin.services.permissions import Action

CAP = 10_000
NOT_ENDED = [status for status in BulkEditStatus if status not in ENDED]
LATEST = 6


def context(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    context |= {"title": "Dashboard", "cap": CAP}
    if may(request, Action.VIEW_RUNS):
        context["counts"] = [(status, status.label, _capped(Run.objects.filter(status=status))) for status in RunStatus]
        context["all_runs"] = _capped(Run.objects.all())
        failed = Run.objects.defer("raw").filter(status=RunStatus.FAILED)
        context["failed_runs"] = failed.order_by("-created_at", "-pk")[:LATEST]
    if may(request, Action.VIEW_EDITS):
        edits = Edit.objects.select_related("run", "actor").defer("run__raw").order_by("-pk")
        context["unsettled"] = _capped(Edit.objects.filter(status__in=UNSETTLED))
        context["recent_edits"] = edits[:LATEST]
        context["open_conflicts"] = _capped(Edit.objects.filter(status=EditStatus.CONFLICT, resolved_by=None))
    if may(request, Action.VIEW_BULK_EDITS):
        bulk_edits = BulkEdit.objects.select_related("actor").order_by("-pk")
        context["recent_bulk_edits"] = bulk_edits[:LATEST]
        context["open_bulk_edits"] = [
            (status, status.label.lower(), count)
            for status in NOT_ENDED
            if (count := _capped(BulkEdit.objects.filter(status=status)))
        ]
    if may(request, Action.VIEW_SYNCS):
        context["recent_syncs"] = Sync.objects.select_related("thread").order_by("-pk")[:LATEST]
        context["connections"] = shown = states()
        context["names_connection"] = len(shown) > 1
    if may(request, Action.VIEW_TASKS):
        context["tasks"] = tasks.problems()
    return context


def _capped(rows: QuerySet[Any]) -> int:
    """The number of rows. Counting stops at one more than the cap."""
    return rows.order_by()[: CAP + 1].count()
