"""The edits of a bulk edit as CSV, a line for each key that changes; a run where nothing does has one line."""

import csv
from collections.abc import Iterator

from runsadmin.admin import changes, keyset, show
from runsadmin.models import Edit, EditStatus
from runsadmin.models.edit import EditQuerySet

CHUNK = 500
HEADER = ("edit", "run", "thread", "plan", "status", "key", "change", "before", "after", "detail")


class _Line:
    """What csv writes to: it gives each line back."""

    def write(self, line: str) -> str:
        return line


def lines(edits: EditQuerySet) -> Iterator[str]:
    """Chunk by chunk, so that the room it takes does not grow with the edits."""
    writer = csv.writer(_Line())
    yield writer.writerow(HEADER)
    rows = edits.select_related("run__thread").defer("run__raw")
    for chunk in keyset.chunks(rows, CHUNK):
        for edit in chunk:
            for row in _rows(edit):
                yield writer.writerow([_cell(value) for value in row])


def _rows(edit: Edit) -> Iterator[list[object]]:
    begin = [edit.pk, edit.run.upstream_id, edit.run.thread.upstream_id, edit.get_finding_display(), edit.status]
    changed = [] if edit.status == EditStatus.SKIPPED else changes.of(edit)
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
