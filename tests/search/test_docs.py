"""docs/search.md: every example is understood, and every error is as documented."""

import re
from pathlib import Path

import pytest

from runsadmin import search
from runsadmin.errors import InvalidSearch
from runsadmin.search.fields import KINDS
from runsadmin.search.parsing import MAX_DEPTH, MAX_LENGTH, MAX_TERMS
from runsadmin.services.run_search import RunSearch

PAGE = (Path(__file__).parents[2] / "docs" / "search.md").read_text(encoding="utf-8")
EXAMPLES, ERRORS = PAGE.split("## Errors")
LISTED = re.findall(r"^    (.+)$", EXAMPLES, re.MULTILINE)
# Among the inline code, searches are recognized by a colon and a value.
INLINE = [text for text in re.findall(r"`([^`]+)`", EXAMPLES) if re.search(r"[a-z]:[^ ]", text)]
MEANT_AS_ERRORS = ("created:-7d", "field:value")


@pytest.mark.django_db
@pytest.mark.parametrize("text", [*LISTED, *(text for text in INLINE if text not in MEANT_AS_ERRORS)])
def test_example_is_understood(text: str) -> None:
    assert list(RunSearch.parse(text).matching()) == []


@pytest.mark.parametrize("text", MEANT_AS_ERRORS)
def test_wrong_example_is_an_error(text: str) -> None:
    with pytest.raises(InvalidSearch):
        search.parse(text)


def test_table_has_all_fields() -> None:
    table = EXAMPLES[EXAMPLES.index("| field | values |") : EXAMPLES.index("A key or value")]
    named = {name for row in re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)", row)}
    assert named == {*KINDS, "metadata"}


@pytest.mark.parametrize("time", re.findall(r"`([^`]+)`", EXAMPLES[EXAMPLES.index("| value | means |") :])[:10])
def test_times_are_understood(time: str) -> None:
    assert search.parse(f"created:>{time}")


@pytest.mark.parametrize(
    ("text", "position", "why"), re.findall(r"^\| `(.+)` \| (\d+) \| (.+) \|$", ERRORS, re.MULTILINE)
)
def test_error_is_as_documented(text: str, position: str, why: str) -> None:
    with pytest.raises(InvalidSearch) as caught:
        search.parse(text)
    assert caught.value.position == int(position)
    assert why in str(caught.value)


def test_limits_are_documented() -> None:
    assert f"at most {MAX_LENGTH:,} characters and {MAX_TERMS} terms" in ERRORS
    assert f"at most {MAX_DEPTH} deep" in ERRORS
