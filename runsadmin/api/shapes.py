"""Runs as this API shows them: the stored answer in the API's own shape, and `mirror` beside it.

Lists of runs are asked for most, so these are plain dicts made in two queries a page; RunSerializer describes them.
"""

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any

from django.db.models import Max, QuerySet

from runsadmin.api.addresses import Addresses
from runsadmin.models import Edit, Run
from runsadmin.models.edit import UNSETTLED
from runsadmin.models.run import TIMES, RunQuerySet
from runsadmin.services import edits

_COLUMNS = (
    *TIMES, "created_at_is_known", "upstream_id", "connection", "raw", "version", "missing_since"
)  # fmt: skip
_EDIT = ("pk", "status", "detail", "next_attempt_at", "upstream_request_id")


def shapeable(runs: RunQuerySet) -> QuerySet[Run]:
    """Reads what a shape is made of, and no more: a Thread per Run would cost as much as the Run."""
    return runs.with_as_of().only(*_COLUMNS)


def run_shapes(runs: Iterable[Run], addresses: Addresses) -> list[dict[str, Any]]:
    """The shapes of these `shapeable` runs, each with its latest edit."""
    runs = list(runs)
    latest = Edit.objects.filter(run__in=runs).values("run").annotate(latest=Max("pk")).values("latest")
    rows = {row[0]: row[1:] for row in Edit.objects.filter(pk__in=latest).values_list("run_id", *_EDIT)}
    waits = _waits([row[0] for row in rows.values() if row[1] in UNSETTLED])
    return [_shape(run, _latest(rows.get(run.pk), waits, addresses), addresses) for run in runs]


def run_shape(run: Run, edit: Edit, addresses: Addresses) -> dict[str, Any]:
    """The shape of one `shapeable` run, with this edit."""
    row = tuple(getattr(edit, name) for name in _EDIT)
    return _shape(run, _latest(row, edits.waits_of([edit]), addresses), addresses)


def _waits(unsettled: list[int]) -> Mapping[int, edits.Wait]:
    if not unsettled:
        return {}
    rows = Edit.objects.filter(pk__in=unsettled).select_related("run", "bulk_edit").defer("run__raw")
    return edits.waits_of(rows)


def _shape(run: Run, edit: dict[str, Any] | None, addresses: Addresses) -> dict[str, Any]:
    return run.as_api() | {
        "mirror": {
            "connection": run.connection,
            "as_of": _iso(run.as_of),
            "missing_since": _iso(run.missing_since),
            "url": addresses.run(run),
            "edit": edit,
        }
    }


def _latest(
    row: tuple[Any, ...] | None, waits: Mapping[int, edits.Wait], addresses: Addresses
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
        "url": addresses.edit(pk),
    }


def _iso(time: dt.datetime | None) -> str | None:
    return None if time is None else time.isoformat().removesuffix("+00:00") + "Z"
