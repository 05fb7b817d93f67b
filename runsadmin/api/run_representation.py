"""Runs as this API shows them: the stored response in the API's own shape, with `mirror`.

Lists of runs are the most frequent request, so these are plain dicts built with two queries per page. RunSerializer
describes them.
"""

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any

from django.db.models import Max, QuerySet

from runsadmin.api.links import Links
from runsadmin.models import Edit, Run
from runsadmin.models.edit import UNSETTLED
from runsadmin.models.run import TIMES, RunQuerySet
from runsadmin.services import edits

_COLUMNS = (*TIMES, "created_at_is_known", "upstream_id", "connection", "raw", "version", "missing_since")
_EDIT_COLUMNS = ("run_id", "pk", "status", "detail", "next_attempt_at", "upstream_request_id")


def representable(runs: RunQuerySet) -> QuerySet[Run]:
    """Reads only what a representation needs: a Thread per Run would cost as much as the Run."""
    return runs.with_as_of().only(*_COLUMNS)


def represent_runs(runs: Iterable[Run], links: Links) -> list[dict[str, Any]]:
    """These `representable` runs, each with its latest edit."""
    runs = list(runs)
    latest = Edit.objects.filter(run__in=runs).values("run").annotate(latest=Max("pk")).values("latest")
    rows = {row.run_id: row for row in Edit.objects.filter(pk__in=latest).values_list(*_EDIT_COLUMNS, named=True)}
    unsettled = [row.pk for row in rows.values() if row.status in UNSETTLED]
    waiting = Edit.objects.filter(pk__in=unsettled).select_related("run", "bulk_edit").defer("run__raw")
    waits = edits.waits_of(waiting) if unsettled else {}
    return [_represent(run, rows.get(run.pk), waits, links) for run in runs]


def represent_run(run: Run, edit: Edit, links: Links) -> dict[str, Any]:
    """One `representable` run, with this edit."""
    return _represent(run, edit, edits.waits_of([edit]), links)


def _represent(run: Run, edit: Any, waits: Mapping[int, edits.Wait], links: Links) -> dict[str, Any]:
    """`edit` has the attributes _EDIT_COLUMNS, or is None."""
    return run.as_api() | {
        "mirror": {
            "connection": run.connection,
            "as_of": _iso(run.as_of),
            "missing_since": _iso(run.missing_since),
            "url": links.run(run),
            "edit": None if edit is None else _represent_edit(edit, waits.get(edit.pk), links),
        }
    }


def _represent_edit(edit: Any, wait: edits.Wait | None, links: Links) -> dict[str, Any]:
    return {
        "id": edit.pk,
        "status": edit.status,
        "detail": edit.detail,
        "waits_for": None if wait is None else wait.what,
        "waits_until": None if wait is None else _iso(wait.until),
        "next_attempt_at": _iso(edit.next_attempt_at),
        "upstream_request_id": edit.upstream_request_id,
        "url": links.edit(edit.pk),
    }


def _iso(time: dt.datetime | None) -> str | None:
    return None if time is None else time.isoformat().removesuffix("+00:00") + "Z"
