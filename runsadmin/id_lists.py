"""Reads lists of ids: text files, CSV files from spreadsheets, pasted text. Does not use Django.

A list has one id per line, or several separated by commas, semicolons or tabs. Spaces separate only ids that look like
the API's: `run 1` is one id, `run_a run_b` are two. If the first line is a header that names an id column, the list is
read as CSV and the other columns are ignored. Lines that begin with `#` are comments, unless the id is quoted.
"""

import codecs
import csv
import io
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from runsadmin.errors import InvalidList

type Kind = Literal["run", "thread"]

MAX_IDS = 100_000
MAX_BYTES = 50_000_000

# UTF-32 before UTF-16: its byte order mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_DELIMITERS = ("\t", ";", ",", "|")
_SPACES = "".join(filter(str.isspace, map(chr, range(0x3001))))
# Byte order marks inside joined files, the DOS end-of-file character, and invisible characters from editors and chats.
_INVISIBLE = (
    "\ufeff\x1a\u00ad\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069"
)
_IGNORED = _SPACES + _INVISIBLE
_QUOTES = {"'": "'", "`": "`", "\u201c": "\u201d", "\u201e": "\u201c", "\u2018": "\u2019", "\u00ab": "\u00bb"}
_ID_LIKE = re.compile(
    r"(?:run|thread|step)_\S|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$", re.IGNORECASE
)
# An apostrophe that marks text as not being a formula, in spreadsheets and in our own CSV files.
_GUARDED = re.compile(r"'+[=+\-@\uff1d\uff0b\uff0d\uff20]")

# The names of the id column, the most specific first.
_COLUMNS: dict[Kind, tuple[str, ...]] = {
    "run": ("runid", "runids", "run", "runs", "id", "ids", "upstreamid"),
    "thread": ("threadid", "threadids", "thread", "threads", "id", "ids", "upstreamid"),
}
_ALL_COLUMNS = frozenset(name for names in _COLUMNS.values() for name in names)


def read(content: bytes | str, kind: Kind) -> list[str]:
    """The ids in their order, duplicates included. Does not check that they are valid. Raises InvalidList."""
    if len(content) > MAX_BYTES:
        raise InvalidList(
            f"The list is larger than {MAX_BYTES // 1_000_000} MB. Split it, or remove all columns except the ids."
        )
    text = (_decode(content) if isinstance(content, bytes) else content).lstrip("\ufeff")
    ids: list[str] = []
    distinct: set[str] = set()
    for found in _ids(text, kind):
        ids.append(found)
        distinct.add(found)
        if len(distinct) > MAX_IDS:
            raise InvalidList(f"The list has more than {MAX_IDS:,} ids. Split it into smaller lists.")
    return ids


def read_file(name: str, kind: Kind) -> list[str]:
    """Reads a file, or standard input for `-`. Raises InvalidList."""
    shown = "Standard input" if name == "-" else name
    try:
        ids = read(_content(name), kind)
    except (OSError, ValueError) as error:  # A name with U+0000 is a ValueError.
        raise InvalidList(f"{shown} cannot be read: {error}. Check its name and permissions.") from None
    except InvalidList as error:
        raise InvalidList(f"{shown} cannot be read. {error}") from None
    if not ids:
        raise InvalidList(f"{shown} contains no ids. Put one id on each line.")
    return ids


def _content(name: str) -> bytes | str:
    limit = MAX_BYTES + 1
    if name == "-":
        if sys.stdin is None:  # The parent process has closed standard input.
            raise OSError("it is closed")
        # Read bytes if possible: the terminal's encoding may differ from the file's.
        return getattr(sys.stdin, "buffer", sys.stdin).read(limit)
    with Path(name).open("rb") as file:
        return file.read(limit)


def from_arguments(values: Iterable[str]) -> list[str]:
    """Ids from command-line arguments, without invisible characters that other systems left in them.

    Spaces in an argument were quoted by the user, so they belong to the id.
    """
    around = _IGNORED.replace(" ", "")
    return [cleaned for value in values if (cleaned := value.strip(around)) and not cleaned.isspace()]


def _decode(content: bytes) -> str:
    mark, encoding = next(((mark, name) for mark, name in _MARKS if content.startswith(mark)), (b"", ""))
    encoding = encoding or _utf16_without_mark(content) or "utf-8"
    content = content[len(mark) :]
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = len(_lines(content[: error.start].decode(encoding, errors="replace")))
        raise InvalidList(
            f"Line {line} is not {encoding.upper()[:6]} text (byte 0x{content[error.start]:02X}). "
            "Save the file as UTF-8 and try again."
        ) from None


def _utf16_without_mark(content: bytes) -> str:
    """The UTF-16 encoding in which most high bytes are zero, since ids are mostly ASCII. Empty if there is none."""
    start = content[:1000]
    for encoding, zeros, others in (("utf-16-le", start[1::2], start[::2]), ("utf-16-be", start[::2], start[1::2])):
        if len(content) % 2 == 0 and zeros.count(0) * 5 > len(start) * 2 and not others.count(0):
            return encoding
    return ""


def _lines(text: str) -> list[str]:
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _ids(text: str, kind: Kind) -> Iterator[str]:
    lines = _lines(text)
    delimiters: tuple[str, ...] = _DELIMITERS
    start = _next(lines, 0)
    if start < len(lines) and (named := re.fullmatch(r'"?sep=(.)"?\s*', lines[start])):  # Excel adds this line.
        delimiters = (named[1],)
        start = _next(lines, start + 1)
    if start == len(lines):
        return
    if re.match(r'\s*(?:\[\s*["{]|\{\s*"|[\[{]\s*$)', lines[start]):
        raise InvalidList("This is JSON. Put one id on each line, or use a CSV file with a header line.")
    repeated = ""  # The header cell, which is repeated if files were joined.
    for delimiter in delimiters:
        cells = _cells(lines[start], delimiter, start)
        header = [re.sub(r"[\W_]", "", cell).lower() for cell in cells]
        if _ALL_COLUMNS.isdisjoint(header):
            continue
        column = next((header.index(name) for name in _COLUMNS[kind] if name in header), None)
        if column is None:
            raise InvalidList(
                f"The header {lines[start][:100]!r} has no column of {kind} ids. Name the column {kind}_id."
            )
        start, repeated = start + 1, _clean(cells[column])
        if len(header) > 1:
            yield from (found for found in _column(lines, start, delimiter, column) if found != repeated)
            return
        break
    for number in range(start, len(lines)):
        if not _is_comment(lines[number]):
            yield from (found for found in _line(lines[number], number) if found != repeated)


def _next(lines: list[str], start: int) -> int:
    """The first line from `start` on that is neither blank nor a comment."""
    not_blank = (number for number in range(start, len(lines)) if lines[number].strip(_IGNORED))
    return next((number for number in not_blank if not _is_comment(lines[number])), len(lines))


def _column(lines: list[str], start: int, delimiter: str, column: int) -> Iterator[str]:
    """A quoted cell may span several lines, so all lines are parsed as one text."""
    rows = csv.reader(io.StringIO("\n".join(lines[start:])), delimiter=delimiter, strict=True)
    number = start + 1
    try:
        for row in rows:
            if any(cell.strip(_IGNORED) for cell in row) and not _is_comment(row[0]):
                found = _clean(row[column]) if column < len(row) else ""
                if not found:
                    raise InvalidList(f"Line {number} has no id in column {column + 1}. Complete or delete the line.")
                yield found
            number = start + 1 + rows.line_num
    except csv.Error as error:
        advice = "Fix its quotes, or remove all columns except the ids."
        raise InvalidList(f"Line {number} is not CSV: {error}. {advice}") from None


def _line(line: str, number: int) -> Iterator[str]:
    if '"' in line:
        delimiter = next((char for char in "\t;," if char in line), ",")
        yield from filter(None, map(_clean, _cells(line, delimiter, number)))
        return
    for raw in re.split(r"[\t;,]", line):
        cell = _clean(raw)
        parts = cell.split()
        if len(parts) > 1 and any(map(_ID_LIKE.match, parts)):
            yield from filter(None, map(_clean, parts))
        elif cell:
            yield cell


def _cells(line: str, delimiter: str, number: int) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
    except csv.Error as error:
        raise InvalidList(f"Line {number + 1} is not CSV: {error}. Put one id on each line.") from None


def _is_comment(line: str) -> bool:
    return line.lstrip(_IGNORED).startswith("#")


def _clean(cell: str) -> str:
    """The cell without surrounding whitespace, invisible characters and quotes."""
    cell = cell.strip(_IGNORED)
    if len(cell) > 1 and _QUOTES.get(cell[0]) == cell[-1]:
        cell = cell[1:-1].strip(_IGNORED)
    return cell[1:] if _GUARDED.match(cell) else cell
