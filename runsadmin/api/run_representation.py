"""Runs as this API shows them: as upstream sent them, with the field `mirror`.

Lists of runs are the most frequent request. Most runs are stored in the API's own format: their JSON is passed on as it
is, without being parsed, and `mirror` is added to its end. The others are parsed and converted.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson
from django.db.models import BigIntegerField, BinaryField, ExpressionWrapper, F, Func, QuerySet

from runsadmin import lenient_json
from runsadmin.api.links import Links
from runsadmin.models import Edit, Run
from runsadmin.models.edit import UNSETTLED
from runsadmin.models.run import RunQuerySet
from runsadmin.models.stored_json import unpack, unpack_each
from runsadmin.services import edits

_COLUMNS = (
    "pk", "upstream_id", "connection", "version", "missing_since", "as_of", "in_api_format", "latest_edit", "stored",
    "created_at", "created_at_is_known",
)  # fmt: skip
# The column as it is stored, so that `raw` is not decoded only to be encoded again.
_STORED = ExpressionWrapper(F("raw"), BinaryField())
_LATEST_EDIT = Func(
    F("pk"),
    template=f"(SELECT MAX(id) FROM {Edit._meta.db_table} WHERE run_id = %(expressions)s)",  # noqa: S608
    output_field=BigIntegerField(null=True),
)
_EDIT_COLUMNS = ("pk", "status", "detail", "next_attempt_at", "upstream_request_id")


def representable(runs: RunQuerySet) -> QuerySet[Any]:
    """The runs as named tuples, with what a representation needs. Model instances would take most of the time."""
    return runs.with_as_of().annotate(latest_edit=_LATEST_EDIT, stored=_STORED).values_list(*_COLUMNS, named=True)


def etag(run: Any) -> str:
    """The ETag of a `representable` run."""
    return Run(pk=run.pk, version=run.version).etag


def represent_runs(runs: Sequence[Any], links: Links) -> Iterator[bytes]:
    """`representable` runs as JSON, each with its latest edit. They are represented as they are read."""
    latest = [run.latest_edit for run in runs if run.latest_edit is not None]
    found = Edit.objects.filter(pk__in=latest).values_list(*_EDIT_COLUMNS, named=True) if latest else ()
    rows = {row.pk: row for row in found}
    unsettled = {row.pk for row in rows.values() if row.status in UNSETTLED}
    waits = edits.waits_in_runs([run.pk for run in runs if run.latest_edit in unsettled])
    for run, raw in zip(runs, unpack_each(run.stored for run in runs), strict=True):
        yield _represent(run, raw, rows.get(run.latest_edit), waits, links)


def represent_run(run: Any, edit: Edit, links: Links) -> orjson.Fragment:
    """The representation of a `representable` run, with this edit."""
    return orjson.Fragment(_represent(run, unpack(run.stored), edit, edits.waits_of([edit]), links))


def _represent(run: Any, raw: bytes, edit: Any, waits: Mapping[int, edits.Wait], links: Links) -> bytes:
    """`edit` has the attributes _EDIT_COLUMNS, or is None."""
    mirror = {
        "connection": run.connection,
        "as_of": run.as_of,
        "missing_since": run.missing_since,
        "url": links.run(run),
        "edit": None if edit is None else _represent_edit(edit, waits.get(edit.pk), links),
    }
    sent = raw if run.in_api_format else _converted(run, raw)
    return b'%b,"mirror":%b}' % (sent[:-1], orjson.dumps(mirror, option=orjson.OPT_UTC_Z))


def _converted(run: Any, raw: bytes) -> bytes:
    converted = Run(raw=raw.decode(), created_at=run.created_at, created_at_is_known=run.created_at_is_known).as_api()
    converted.pop("mirror", None)
    return lenient_json.dumps(converted).encode()


def _represent_edit(edit: Any, wait: edits.Wait | None, links: Links) -> dict[str, Any]:
    return {
        "id": edit.pk,
        "status": edit.status,
        "detail": edit.detail,
        "waits_for": None if wait is None else wait.what,
        "waits_until": None if wait is None else wait.until,
        "next_attempt_at": edit.next_attempt_at,
        "upstream_request_id": edit.upstream_request_id,
        "url": links.edit(edit.pk),
    }
