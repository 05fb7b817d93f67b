"""The edits of a bulk edit as CSV, a line for each key that changes; a run where nothing does has one line."""

import csv
import io
from collections.abc import Iterable, Iterator

from runsadmin.admin import changes, keyset, show
from runsadmin.models import Edit
from runsadmin.models.edit import EditQuerySet

CHUNK = 500
READ = (
    "status", "finding", "base", "patch", "before", "intended", "after", "detail", "run__upstream_id",
    "run__thread__upstream_id",
)  # fmt: skip
HEADER = ("edit", "run", "thread", "plan", "status", "key", "change", "before", "after", "detail")


def written(edits: EditQuerySet) -> Iterator[str]:
    """Chunk by chunk, so that the room it takes does not grow with the edits."""
    yield _lines([HEADER])
    rows = edits.select_related("run__thread").only(*READ)
    for chunk in keyset.chunks(rows, CHUNK):
        yield _lines(row for edit in chunk for row in _rows(edit))


def _lines(rows: Iterable[Iterable[object]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue()


def _rows(edit: Edit) -> Iterator[list[object]]:
    begin = [edit.pk, edit.run.upstream_id, edit.run.thread.upstream_id, edit.get_finding_display(), edit.status]
    changed = changes.of_planned(edit)
    for change in changed:
        yield [*begin, change.key, _kind(change), change.old, change.new, edit.detail]
    if not changed:
        yield [*begin, None, None, None, None, edit.detail]


def _kind(change: changes.Change) -> str:
    """Tells a value that is not there from an empty one."""
    if change.is_same:
        return "same"
    if change.old is None:
        return "added"
    return "removed" if change.new is None else "changed"


def _cell(value: object) -> str:
    """Spreadsheets take what begins like this for a formula: an apostrophe makes text of it."""
    shown = "" if value is None else show.text(value)
    return f"'{shown}" if shown.startswith(("=", "+", "-", "@", "\t", "\r")) else shown
