"""CSV files: one line per run, or one line per changed key of the edits of a bulk edit."""

import csv
import io
import re
from collections.abc import Iterable, Iterator
from itertools import batched

from django.http import StreamingHttpResponse

from runsadmin.admin import changes
from runsadmin.keyset import read_chunks
from runsadmin.models import Edit, Run
from runsadmin.models.edit import EditQuerySet
from runsadmin.templatetags import display

CHUNK = 500
EDIT_FIELDS = (
    "status", "plan_result", "base", "patch", "before", "intended", "after", "detail", "run__upstream_id",
    "run__thread__upstream_id",
)  # fmt: skip
# Without it, Excel assumes a legacy encoding.
BYTE_ORDER_MARK = "\ufeff"
RUN_HEADER = (
    "id", "connection", "thread", "status", "model", "assistant", "created", "seconds", "tokens", "error", "metadata",
)  # fmt: skip
EDIT_HEADER = ("edit", "run", "thread", "plan", "status", "key", "change", "before", "after", "detail")


# Characters that begin a formula, including full-width and small forms.
_SIGNS = "=+-@\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b"
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:[.,][0-9]+)?|[.,][0-9]+)(?:[eE][+-]?[0-9]+)?")
# Spreadsheets recognize a formula even after these characters at the beginning of a cell.
_BLANK = r"\s\x00-\x1f\x7f\xad\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff"
_BEGINNING = re.compile(rf"[{_BLANK}\"']*+[{re.escape(_SIGNS)}]|'*+[\t\r\n]")
_BLANKS = re.compile(rf"[{_BLANK}\"';]+")
# Some spreadsheets begin a new cell at these characters, even inside quotes.
_SPLITS = re.compile(r"[;\t\r\n\v\f\x85\u2028\u2029]")


def response(lines: Iterator[str], filename: str) -> StreamingHttpResponse:
    """Streams chunk by chunk, so that memory use does not grow with the number of rows."""
    return StreamingHttpResponse(
        lines,
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{filename}"'},
    )


def runs(keys: Iterable[int]) -> Iterator[str]:
    """One line per run, with its metadata as JSON."""
    yield _lines([RUN_HEADER])
    for some in batched(keys, CHUNK, strict=False):
        chunk = Run.objects.filter(pk__in=some).select_related("thread").order_by("pk")
        yield _lines(
            (
                run.upstream_id, run.connection, run.thread.upstream_id, run.status, run.model, run.assistant_id,
                run.created_at.isoformat() if run.created_at_is_known else None,
                None if run.duration is None else str(round(run.duration.total_seconds())),
                None if run.total_tokens is None else str(run.total_tokens), run.error_code, dict(run.metadata),
            )
            for run in chunk
        )  # fmt: skip


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
    return "" if value is None else safe(display.text(value))


def safe(text: str) -> str:
    """Puts an apostrophe before anything that a spreadsheet would treat as a formula. Numbers stay numbers.

    This can be reversed, since text that already has apostrophes there gets one more.
    """
    if _NUMBER.fullmatch(text):
        return text

    def guard(blanks: re.Match[str]) -> str:
        before = blanks[0].rstrip("'")
        begins_formula = text[blanks.end() : blanks.end() + 1] in _SIGNS and blanks.end() < len(text)
        return f"{before}'{blanks[0][len(before) :]}" if begins_formula and _SPLITS.search(before) else blanks[0]

    guarded = _BLANKS.sub(guard, text)
    return f"'{guarded}" if _BEGINNING.match(text) else guarded
