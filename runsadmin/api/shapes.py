"""Runs as this API shows them: the stored answer in the API's own shape, and `mirror` beside it.

Lists of runs are asked for most, so these are plain dicts made in two queries a page; RunSerializer describes them.
"""

import datetime as dt
from collections.abc import Iterable
from typing import Any

from django.db.models import F, Max, QuerySet

from runsadmin.api.addresses import Addresses
from runsadmin.models import Edit, Run
from runsadmin.models.run import TIMES

_COLUMNS = (
    *TIMES, "created_at_is_known", "upstream_id", "connection", "raw", "version", "answered_at", "missing_since"
)  # fmt: skip
_EDIT = ("pk", "status", "detail", "upstream_request_id")


def shapeable(runs: QuerySet[Run]) -> QuerySet[Run]:
    """Reads what a shape is made of, and no more: a Thread per Run would cost as much as the Run."""
    return runs.only(*_COLUMNS).annotate(confirmed_at=F("thread__fully_checked_at"))


def run_shapes(runs: Iterable[Run], addresses: Addresses) -> list[dict[str, Any]]:
    """The shapes of these `shapeable` runs, each with its latest edit."""
    runs = list(runs)
    latest = Edit.objects.filter(run__in=runs).values("run").annotate(latest=Max("pk")).values("latest")
    edits = {row[0]: row[1:] for row in Edit.objects.filter(pk__in=latest).values_list("run_id", *_EDIT)}
    return [_shape(run, edits.get(run.pk), addresses) for run in runs]


def run_shape(run: Run, edit: Edit, addresses: Addresses) -> dict[str, Any]:
    """The shape of one `shapeable` run, with this edit."""
    return _shape(run, tuple(getattr(edit, name) for name in _EDIT), addresses)


def _shape(run: Run, edit: tuple[Any, ...] | None, addresses: Addresses) -> dict[str, Any]:
    """`as_of` is when upstream was last known to say this: a pass that finds a run unchanged does not write its row."""
    confirmed_at: dt.datetime | None = run.confirmed_at  # type: ignore[attr-defined]
    return run.as_api() | {
        "mirror": {
            "connection": run.connection,
            "as_of": _iso(max(run.answered_at, confirmed_at or run.answered_at)),
            "missing_since": _iso(run.missing_since),
            "url": addresses.run(run),
            "edit": None if edit is None else _brief(addresses, *edit),
        }
    }


def _brief(addresses: Addresses, pk: int, status: str, detail: str, upstream_request_id: str) -> dict[str, Any]:
    return {
        "id": pk,
        "status": status,
        "detail": detail,
        "upstream_request_id": upstream_request_id,
        "url": addresses.edit(pk),
    }


def _iso(time: dt.datetime | None) -> str | None:
    return None if time is None else time.isoformat().removesuffix("+00:00") + "Z"
