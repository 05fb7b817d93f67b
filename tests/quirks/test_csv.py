"""CSV exports in spreadsheets: no cell is a formula, whatever the delimiter, and every value can be restored."""

import csv
import io
import re
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.test import Client
from hypothesis import given, settings
from hypothesis import strategies as st

from runsadmin.models import BulkEdit, Run
from runsadmin.services.exports import cells as csv_cells
from tests.fake_upstream import FakeUpstream
from tests.management.conftest import Manage
from tests.sandbox_client import make_run

pytestmark = pytest.mark.django_db

# A value, and the cell that it is exported as.
CELLS = {
    "formula": ("=1+1", "'=1+1"),
    "minus": ("-2+3+cmd|' /C calc'!A0", "'-2+3+cmd|' /C calc'!A0"),
    "plus": ("+A1", "'+A1"),
    "at": ("@SUM(A1)", "'@SUM(A1)"),
    "negative number": ("-5", "-5"),
    "signed decimal": ("+1.5", "+1.5"),
    "decimal comma": ("-1,5", "-1,5"),
    "exponent": ("-1.5e-7", "-1.5e-7"),
    "not a number": ("-5+A1", "'-5+A1"),
    "number and space": ("-5 A1", "'-5 A1"),
    "other digits": ("-٣", "'-٣"),
    "LF": ("\nx", "'\nx"),
    "LF and formula": ("\n=1", "'\n'=1"),
    "CR": ("\rx", "'\rx"),
    "tab": ("\tx", "'\tx"),
    "spaces and formula": ("  =1", "'  =1"),
    "no-break space": ("\u00a0=1", "'\u00a0=1"),
    "zero-width space": ("\u200b=1", "'\u200b=1"),
    "byte order mark": ("\ufeff=1", "'\ufeff=1"),
    "control character": ("\x01=1", "'\x01=1"),
    "full-width equals": ("＝1", "'＝1"),
    "full-width plus": ("＋A1", "'＋A1"),
    "full-width minus": ("－A1", "'－A1"),
    "full-width at": ("＠SUM(1)", "'＠SUM(1)"),
    "semicolon": ("x;=1", "x;'=1"),
    "semicolon, space": ("x; \t=1;@y", "x; \t'=1;'@y"),
    "semicolon, quote": ('x;"=1', "x;\"'=1"),
    "semicolon, number": ("x;-5", "x;'-5"),
    "line and formula": ("x\n=1\r\n+y", "x\n'=1\r\n'+y"),
    "tab and formula": ("x\t=1", "x\t'=1"),
    "apostrophe and formula": ("'=1", "''=1"),
    "apostrophe inside": ("x;'=1", "x;''=1"),
    "apostrophe": ("'tis", "'tis"),
    "no formula": ("a=1; b - c, d+e@f", "a=1; b - c, d+e@f"),
    "semicolons": ("a;b;;c;", "a;b;;c;"),
    "accents": ("Zoë 日本", "Zoë 日本"),
    "empty": ("", ""),
}  # fmt: skip


@pytest.fixture
def download(
    mirror_runs: Callable[..., list[Run]], manage: Manage, alice: User, client: Client
) -> Callable[..., bytes]:
    """Downloads the CSV of a plan that removes these values, one per run."""

    def download(*values: str) -> bytes:
        mirror_runs(*(make_run(id=f"run_{index}", metadata={"note": value}) for index, value in enumerate(values)))
        names = [f"run_{index}" for index in range(len(values))]
        manage("edit_metadata", *names, "--remove", "note", "--reason", "why", "--dry-run", "--actor", "alice")
        client.force_login(alice)
        return csv_of(client)

    return download


def csv_of(client: Client, query: str = "") -> bytes:
    response = client.get(f"/admin/runsadmin/bulkedit/{BulkEdit.objects.get().pk}/csv/{query}")
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    content: bytes = response.getvalue()
    return content


@pytest.mark.parametrize(("value", "cell"), CELLS.values(), ids=CELLS.keys())
def test_cell_is_not_a_formula(value: str, cell: str) -> None:
    assert csv_cells.safe(value) == cell
    assert restored(cell) == value
    for delimiter in (",", ";", "\t"):
        cells = cells_of(csv_row("1", cell, "2"), delimiter)
        assert not [cell for cell in cells if is_formula(cell)]


def test_every_value_can_be_restored(upstream: FakeUpstream, download: Callable[..., bytes]) -> None:
    values = {f"run_{index}": value for index, (value, _) in enumerate(CELLS.values())}
    content = download(*values.values()).decode()
    rows = csv.DictReader(io.StringIO(content, newline=""))
    assert {row["run"]: restored(row["before"]) for row in rows} == values
    for delimiter in (",", ";", "\t"):
        assert not [cell for cell in cells_of(content, delimiter) if is_formula(cell)]


def test_byte_order_mark_is_optional(upstream: FakeUpstream, download: Callable[..., bytes], client: Client) -> None:
    without_mark = download("Zoë")
    assert csv_of(client, "?bom=1") == csv_of(client, "?plan_result=change&bom=1") == b"\xef\xbb\xbf" + without_mark
    page = client.get(f"/admin/runsadmin/bulkedit/{BulkEdit.objects.get().pk}/change/").text
    assert "csv/?bom=1" in page


TEXT = st.text(st.sampled_from("=+-@＝;\t\n\r \"'1a,|\u200b"), max_size=12) | st.text(max_size=12)


@settings(deadline=None, derandomize=True)
@given(TEXT)
def test_any_text_is_safe_and_can_be_restored(text: str) -> None:
    cell = csv_cells.safe(text)
    assert restored(cell) == text
    assert cells_of(csv_row("1", cell, "2"), ",") == ["1", cell, "2"]
    for delimiter in (",", ";", "\t"):
        cells = cells_of(csv_row("1", cell, "2"), delimiter)
        assert not [cell for cell in cells if is_formula(cell)]


def test_long_cells_take_linear_time() -> None:
    for text in ("\n" * 1_000_000, ";=" * 500_000, "'" * 1_000_000, ' "' * 500_000):
        assert len(csv_cells.safe(text)) >= 1_000_000


NUMBER = re.compile(r"[+-]?[0-9]*[.,]?[0-9]+([eE][+-]?[0-9]+)?", re.ASCII)
SIGNS = tuple("=+-@＝＋－＠")


def csv_row(*cells: str) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerow(cells)
    return text.getvalue()


def cells_of(content: str, delimiter: str) -> list[str]:
    return [cell for row in csv.reader(io.StringIO(content, newline=""), delimiter=delimiter) for cell in row]


def is_formula(cell: str) -> bool:
    """Whether a spreadsheet could read the cell as a formula, which a plain number is not."""
    content = cell.lstrip(' \t\r\n\u00a0\u200b\ufeff\x01"')
    return content.startswith(SIGNS) and not NUMBER.fullmatch(cell)


def restored(cell: str) -> str:
    """Reverses `csv_cells.safe`: the cell without the apostrophes that it added."""

    def without_apostrophe(match: re.Match[str]) -> str:
        """`safe` adds the last apostrophe before a sign if a delimiter or a line break precedes it."""
        is_added = re.search(r"[;\t\r\n\v\f\x85\u2028\u2029]", match[0].rstrip("'"))
        return match[0][:-1] if is_added else match[0]

    before_a_sign = rf"[{csv_cells._BLANK}\"';]+(?=[{re.escape(csv_cells._SIGNS)}])"
    value = re.sub(before_a_sign, without_apostrophe, cell)
    is_guarded = value.startswith("'") and csv_cells._BEGINNING.match(value)
    return value[1:] if is_guarded else value
