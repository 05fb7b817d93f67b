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

_COLUMNS = (
    *TIMES, "created_at_is_known", "upstream_id", "connection", "raw", "version", "missing_since"
)  # fmt: skip
_EDIT = ("pk", "status", "detail", "next_attempt_at", "upstream_request_id")


def representable(runs: RunQuerySet) -> QuerySet[Run]:
    """Reads only what a representation needs: a Thread per Run would cost as much as the Run."""
    return runs.with_as_of().only(*_COLUMNS)


def represent_runs(runs: Iterable[Run], links: Links) -> list[dict[str, Any]]:
    """These `representable` runs, each with its latest edit."""
    runs = list(runs)
    latest = Edit.objects.filter(run__in=runs).values("run").annotate(latest=Max("pk")).values("latest")
    rows = {row[0]: row[1:] for row in Edit.objects.filter(pk__in=latest).values_list("run_id", *_EDIT)}
    waits = _waits([row[0] for row in rows.values() if row[1] in UNSETTLED])
    return [_represent(run, _represent_edit(rows.get(run.pk), waits, links), links) for run in runs]


def represent_run(run: Run, edit: Edit, links: Links) -> dict[str, Any]:
    """One `representable` run, with this edit."""
    row = tuple(getattr(edit, name) for name in _EDIT)
    return _represent(run, _represent_edit(row, edits.waits_of([edit]), links), links)


def _waits(unsettled: list[int]) -> Mapping[int, edits.Wait]:
    if not unsettled:
        return {}
    rows = Edit.objects.filter(pk__in=unsettled).select_related("run", "bulk_edit").defer("run__raw")
    return edits.waits_of(rows)


def _represent(run: Run, edit: dict[str, Any] | None, links: Links) -> dict[str, Any]:
    return run.as_api() | {
        "mirror": {
            "connection": run.connection,
            "as_of": _iso(run.as_of),
            "missing_since": _iso(run.missing_since),
            "url": links.run(run),
            "edit": edit,
        }
    }


def _represent_edit(
    row: tuple[Any, ...] | None, waits: Mapping[int, edits.Wait], links: Links
) -> dict[str, Any] | None:
    if row is None:
        return None
    pk, status, detail, next_attempt_at, upstream_request_id = row
    wait = waits.get(pk)
    return {
        "id": pk,
        "status": status,
        "detail": detail,
        "waits_for": None if wait is None else wait.what,
        "waits_until": None if wait is None else _iso(wait.until),
        "next_attempt_at": _iso(next_attempt_at),
        "upstream_request_id": upstream_request_id,
        "url": links.edit(pk),
    }


def _iso(time: dt.datetime | None) -> str | None:
    return None if time is None else time.isoformat().removesuffix("+00:00") + "Z"
