"""Cells of CSV files: text that no spreadsheet runs as a formula, and from which every value can be restored."""

import csv
import datetime as dt
import io
import re
from collections.abc import Iterable, Mapping

from runsadmin.text import printable

# Characters that begin a formula, including full-width and small forms.
_SIGNS = "=+-@\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b"
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:[.,][0-9]+)?|[.,][0-9]+)(?:[eE][+-]?[0-9]+)?")
# Spreadsheets recognize a formula even after these characters at the beginning of a cell.
_BLANK = r"\s\x00-\x1f\x7f\xad\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff"
_BEGINNING = re.compile(rf"[{_BLANK}\"']*+[{re.escape(_SIGNS)}]|'*+[\t\r\n]")
_BLANKS = re.compile(rf"[{_BLANK}\"';]+")
# Some spreadsheets begin a new cell at these characters, even inside quotes.
_SPLITS = re.compile(r"[;\t\r\n\v\f\x85\u2028\u2029]")
# Most cells are like this, and need no closer look.
_HARMLESS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/ -]*")


def safe(text: str) -> str:
    """Puts an apostrophe before anything that a spreadsheet would treat as a formula. Numbers stay numbers.

    This can be reversed, since text that already has apostrophes there gets one more.
    """
    if _HARMLESS.fullmatch(text) or _NUMBER.fullmatch(text):
        return text

    def guard(blanks: re.Match[str]) -> str:
        before = blanks[0].rstrip("'")
        begins_formula = text[blanks.end() : blanks.end() + 1] in _SIGNS and blanks.end() < len(text)
        return f"{before}'{blanks[0][len(before) :]}" if begins_formula and _SPLITS.search(before) else blanks[0]

    guarded = _BLANKS.sub(guard, text) if _SPLITS.search(text) else text
    return f"'{guarded}" if _BEGINNING.match(text) else guarded


def lines(rows: Iterable[Iterable[object]]) -> str:
    """Rows as lines of a CSV file. None is an empty cell, and empty text a pair of quotes."""
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_STRINGS)
    for row in rows:
        cells = [_cell(value) for value in row]
        if cells == [None]:
            text.write("\r\n")  # The writer refuses a row with a single empty cell.
        else:
            writer.writerow(cells)
    return text.getvalue()


def _cell(value: object) -> str | int | float | None:
    match value:
        case None | int():
            return value
        case str():
            return safe(printable(value))
        case dt.datetime():
            return value.isoformat()
        case dt.timedelta():
            return seconds(value)
        case Mapping():
            return safe(printable(dict(value)))
    return safe(printable(value))


def seconds(duration: dt.timedelta) -> float | int:
    """A duration in seconds, without decimals if it has none."""
    total = duration.total_seconds()
    return int(total) if total.is_integer() else total
