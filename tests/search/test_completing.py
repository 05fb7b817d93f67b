"""Finds what is being typed at a position of a search."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runsadmin.search import Field
from runsadmin.search.completing import Typed, typed_at

STATUS, TEAM, COST_CENTER = Field("status"), Field("metadata", "team"), Field("metadata", "cost center")


@pytest.mark.parametrize(
    ("text", "typed"),
    [
        ("|", Typed(0, 0, "")),
        ("sta|", Typed(0, 3, "sta")),
        ("status:|", Typed(7, 7, "", STATUS)),
        ("status:fa|iled", Typed(7, 13, "fa", STATUS)),
        ("status:failed |", Typed(14, 14, "")),
        ("-status:fa|", Typed(8, 10, "fa", STATUS)),
        ("status:(failed OR |", Typed(18, 18, "", STATUS)),
        ("status:(failed OR ex|) model:x", Typed(18, 20, "ex", STATUS)),
        ("status:(failed) gp|", Typed(16, 18, "gp")),
        ("(a OR status:fa|)", Typed(13, 15, "fa", STATUS)),
        ("metadata.|", Typed(0, 9, "", is_key=True)),
        ("metadata.tea|", Typed(0, 12, "tea", is_key=True)),
        ('metadata."cost c|', Typed(0, 16, "cost c", is_key=True)),
        ("metadata.team:se|", Typed(14, 16, "se", TEAM)),
        ('metadata."cost center":"R&|', Typed(23, 26, "R&", COST_CENTER)),
        ("model:ft:gpt|", Typed(6, 12, "ft:gpt", Field("model"))),
        ("created:>-7|d", Typed(8, 12, ">-7", Field("created"))),
        ("😀 sta|", Typed(2, 5, "sta")),
        ("color:r|", Typed(0, 7, "color:r")),
        ('"cost center"|', None),
        ("metadata.tea|m:x", None),
    ],
)
def test_typed_part_is_found(text: str, typed: Typed | None) -> None:
    assert typed_at(text.replace("|", ""), text.index("|")) == typed


@given(st.text(alphabet='ab :"()-[]\\*>.metadata😀\n', max_size=40), st.integers(0, 40))
def test_any_text_can_be_completed(text: str, cursor: int) -> None:
    at = min(cursor, len(text))
    typed = typed_at(text, at)
    assert typed is None or 0 <= typed.begin <= at <= typed.end <= len(text)
