"""Our CSV in spreadsheets: no cell is a formula wherever they split it, and every value survives."""

import csv
import io
import re
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.test import Client
from hypothesis import given, settings
from hypothesis import strategies as st

from runsadmin.admin import csv_export
from runsadmin.models import BulkEdit, Run
from tests.fake_upstream import FakeUpstream
from tests.management.conftest import Manage
from tests.sandbox_client import make_run

pytestmark = pytest.mark.django_db

# A value as upstream has it, and the cell.
CELLS = {
    "formula": ("=1+1", "'=1+1"),
    "minus": ("-2+3+cmd|' /C calc'!A0", "'-2+3+cmd|' /C calc'!A0"),
    "plus": ("+A1", "'+A1"),
    "at": ("@SUM(A1)", "'@SUM(A1)"),
    "negative number": ("-5", "-5"),
    "signed decimal": ("+1.5", "+1.5"),
    "decimal comma": ("-1,5", "-1,5"),
    "exponent": ("-1.5e-7", "-1.5e-7"),
    "no number": ("-5+A1", "'-5+A1"),
    "number and blank": ("-5 A1", "'-5 A1"),
    "other digits": ("-٣", "'-٣"),
    "LF": ("\nx", "'\nx"),
    "LF and formula": ("\n=1", "'\n'=1"),
    "CR": ("\rx", "'\rx"),
    "tab": ("\tx", "'\tx"),
    "blanks and formula": ("  =1", "'  =1"),
    "no-break space": ("\u00a0=1", "'\u00a0=1"),
    "zero-width space": ("\u200b=1", "'\u200b=1"),
    "byte order mark": ("\ufeff=1", "'\ufeff=1"),
    "control character": ("\x01=1", "'\x01=1"),
    "full-width equals": ("＝1", "'＝1"),
    "full-width plus": ("＋A1", "'＋A1"),
    "full-width minus": ("－A1", "'－A1"),
    "full-width at": ("＠SUM(1)", "'＠SUM(1)"),
    "semicolon": ("x;=1", "x;'=1"),
    "semicolon, blank": ("x; \t=1;@y", "x; \t'=1;'@y"),
    "semicolon, quote": ('x;"=1', "x;\"'=1"),
    "semicolon, number": ("x;-5", "x;'-5"),
    "line and formula": ("x\n=1\r\n+y", "x\n'=1\r\n'+y"),
    "tab and formula": ("x\t=1", "x\t'=1"),
    "apostrophe of its own": ("'=1", "''=1"),
    "apostrophe inside": ("x;'=1", "x;''=1"),
    "apostrophe": ("'tis", "'tis"),
    "no formula": ("a=1; b - c, d+e@f", "a=1; b - c, d+e@f"),
    "semicolons": ("a;b;;c;", "a;b;;c;"),
    "accents": ("Zoë 日本", "Zoë 日本"),
    "empty": ("", ""),
}  # fmt: skip


@pytest.fixture
def download(mirror: Callable[..., list[Run]], manage: Manage, alice: User, client: Client) -> Callable[..., bytes]:
    """The CSV of a plan that removes these values, one per run."""

    def download(*values: str) -> bytes:
        mirror(*(make_run(id=f"run_{place}", metadata={"note": value}) for place, value in enumerate(values)))
        names = [f"run_{place}" for place in range(len(values))]
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
def test_cell_is_no_formula(value: str, cell: str) -> None:
    assert csv_export.safe(value) == cell
    assert plain(cell) == value
    for delimiter in (",", ";", "\t"):
        cells = parsed(written("1", cell, "2"), delimiter)
        assert not [one for one in cells if is_formula(one)]


def test_every_value_comes_back(upstream: FakeUpstream, download: Callable[..., bytes]) -> None:
    values = {f"run_{place}": value for place, (value, _) in enumerate(CELLS.values())}
    content = download(*values.values()).decode()
    rows = csv.DictReader(io.StringIO(content, newline=""))
    assert {row["run"]: plain(row["before"]) for row in rows} == values
    for delimiter in (",", ";", "\t"):
        assert not [cell for cell in parsed(content, delimiter) if is_formula(cell)]


def test_byte_order_mark_is_an_option(upstream: FakeUpstream, download: Callable[..., bytes], client: Client) -> None:
    without = download("Zoë")
    assert csv_of(client, "?bom=1") == csv_of(client, "?finding=change&bom=1") == b"\xef\xbb\xbf" + without
    page = client.get(f"/admin/runsadmin/bulkedit/{BulkEdit.objects.get().pk}/change/").text
    assert "csv/?bom=1" in page


TEXT = st.text(st.sampled_from("=+-@＝;\t\n\r \"'1a,|\u200b"), max_size=12) | st.text(max_size=12)


@settings(deadline=None, derandomize=True)
@given(TEXT)
def test_any_text_is_safe_and_comes_back(text: str) -> None:
    cell = csv_export.safe(text)
    assert plain(cell) == text
    assert parsed(written("1", cell, "2"), ",") == ["1", cell, "2"]
    for delimiter in (",", ";", "\t"):
        assert not [one for one in parsed(written("1", cell, "2"), delimiter) if is_formula(one)]


def test_long_cells_take_linear_time() -> None:
    for text in ("\n" * 1_000_000, ";=" * 500_000, "'" * 1_000_000, ' "' * 500_000):
        assert len(csv_export.safe(text)) >= 1_000_000


NUMBER = re.compile(r"[+-]?[0-9]*[.,]?[0-9]+([eE][+-]?[0-9]+)?", re.ASCII)
SIGNS = "=+-@＝＋－＠"


def written(*cells: str) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerow(cells)
    return text.getvalue()


def parsed(content: str, delimiter: str) -> list[str]:
    return [cell for row in csv.reader(io.StringIO(content, newline=""), delimiter=delimiter) for cell in row]


def is_formula(cell: str) -> bool:
    """Whether a spreadsheet may take the cell for a formula; a plain number is none."""
    begun = cell.lstrip(' \t\r\n\u00a0\u200b\ufeff\x01"')
    return begun[:1] != "" and begun[0] in SIGNS and not NUMBER.fullmatch(cell)


def plain(cell: str) -> str:
    """The value of a cell."""
    blank = csv_export._BLANK
    inner = re.sub(
        rf"[{blank}\"';]+(?=[{re.escape(csv_export._SIGNS)}])",
        lambda run: run[0][:-1] if re.search(r"[;\t\r\n\v\f\x85\u2028\u2029]", run[0].rstrip("'")) else run[0],
        cell,
    )
    is_guarded = inner.startswith("'") and csv_export._BEGINNING.match(inner)
    return inner[1:] if is_guarded else inner
