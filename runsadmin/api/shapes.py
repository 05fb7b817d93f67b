"""Runs as this API shows them: the stored answer in the API's own shape, and `mirror` beside it.

Lists of runs are asked for most, so these are plain dicts made in two queries a page; RunSerializer describes them.
"""

import datetime as dt
from collections.abc import Iterable
from typing import Any

from django.db.models import Max

from runsadmin.api.addresses import Addresses
from runsadmin.models import Edit, Run
from runsadmin.models.run import TIMES

COLUMNS = (
    *TIMES, "upstream_id", "connection", "raw", "version", "answered_at", "missing_since", "thread__fully_checked_at"
)  # fmt: skip


def run_shapes(runs: Iterable[Run], addresses: Addresses) -> list[dict[str, Any]]:
    """Each with its latest edit."""
    runs = list(runs)
    latest = Edit.objects.filter(run__in=runs).values("run").annotate(latest=Max("pk")).values("latest")
    edits = Edit.objects.filter(pk__in=latest).only("run_id", "status", "detail", "upstream_request_id")
    by_run = {edit.run_id: edit for edit in edits}
    return [run_shape(run, by_run.get(run.pk), addresses) for run in runs]


def run_shape(run: Run, edit: Edit | None, addresses: Addresses) -> dict[str, Any]:
    """`as_of` is when upstream was last known to say this: a pass that finds a run unchanged does not write its row."""
    as_of = max(filter(None, (run.answered_at, run.thread.fully_checked_at)))
    return run.as_api() | {
        "mirror": {
            "connection": run.connection,
            "as_of": _iso(as_of),
            "missing_since": _iso(run.missing_since),
            "url": addresses.run(run),
            "edit": None if edit is None else _brief(edit, addresses),
        }
    }


def _brief(edit: Edit, addresses: Addresses) -> dict[str, Any]:
    return {
        "id": edit.pk,
        "status": edit.status,
        "detail": edit.detail,
        "upstream_request_id": edit.upstream_request_id,
        "url": addresses.edit(edit),
    }


def _iso(time: dt.datetime | None) -> str | None:
    return None if time is None else time.isoformat().removesuffix("+00:00") + "Z"
