"""The CSV file of a bulk edit: one line per changed key of its edits."""

import csv
import io
from collections.abc import Iterable, Iterator

from django.http import StreamingHttpResponse

from runsadmin.admin import changes
from runsadmin.keyset import read_chunks
from runsadmin.models import Edit
from runsadmin.models.edit import EditQuerySet
from runsadmin.services.exports import cells
from runsadmin.templatetags import display

CHUNK = 500
EDIT_FIELDS = (
    "status", "plan_result", "base", "patch", "before", "intended", "after", "detail", "run__upstream_id",
    "run__thread__upstream_id",
)  # fmt: skip
# Without it, Excel assumes a legacy encoding.
BYTE_ORDER_MARK = "\ufeff"
EDIT_HEADER = ("edit", "run", "thread", "plan", "status", "key", "change", "before", "after", "detail")


def response(lines: Iterator[str], filename: str) -> StreamingHttpResponse:
    """Streams chunk by chunk, so that memory use does not grow with the number of rows."""
    return StreamingHttpResponse(
        lines,
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{filename}"'},
    )


def edits(rows: EditQuerySet, *, with_bom: bool = False) -> Iterator[str]:
    """One line per changed key. An edit without changes has one line."""
    yield BYTE_ORDER_MARK * with_bom + _lines([EDIT_HEADER])
    for chunk in read_chunks(rows.select_related("run__thread").only(*EDIT_FIELDS), CHUNK):
        yield _lines(row for edit in chunk for row in _rows(edit))


def _lines(rows: Iterable[Iterable[object]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue()


def _rows(edit: Edit) -> Iterator[list[object]]:
    begin = [edit.pk, edit.run.upstream_id, edit.run.thread.upstream_id, edit.get_plan_result_display(), edit.status]
    changed = changes.of_planned(edit)
    for change in changed:
        yield [*begin, change.key, _kind(change), change.old, change.new, edit.detail]
    if not changed:
        yield [*begin, None, None, None, None, edit.detail]


def _kind(change: changes.Change) -> str:
    """Distinguishes an absent value from an empty one."""
    if change.is_same:
        return "same"
    if change.old is None:
        return "added"
    return "removed" if change.new is None else "changed"


def _cell(value: object) -> str:
    return "" if value is None else cells.safe(display.text(value))
