import pytest

from runsadmin.errors import InvalidMetadata
from runsadmin.management import pair_arguments
from runsadmin.metadata import MetadataPatch


def errors_of(to_set: list[str], to_remove: list[str] | None = None) -> list[tuple[str | None, str]]:
    with pytest.raises(InvalidMetadata) as caught:
        pair_arguments.parse(to_set, to_remove or [])
    return [(error.key, error.code) for error in caught.value.errors]


def test_pair_is_split_at_first_equals_sign() -> None:
    assert pair_arguments.parse(["query=a=b", "empty="], ["old", "old"]) == MetadataPatch(
        {"query": "a=b", "empty": ""}, frozenset({"old"})
    )


def test_spaces_and_signs_are_kept() -> None:
    assert pair_arguments.parse([" cost center = R&D "], []).set == {" cost center ": " R&D "}


def test_pair_needs_an_equals_sign() -> None:
    assert errors_of(["team"]) == [("team", "no_equals_sign")]


def test_empty_key_is_refused() -> None:
    assert errors_of(["=x"]) == [("", "empty_key")]
    assert errors_of([], [""]) == [("", "empty_key")]


def test_same_key_twice_is_refused() -> None:
    assert errors_of(["team=a", "team=b"]) == [("team", "set_twice")]
    assert errors_of(["team=a"], ["team"]) == [("team", "set_and_removed")]


def test_every_error_is_reported() -> None:
    assert errors_of(["team", "=x", "k=" + "v" * 513]) == [
        ("team", "no_equals_sign"),
        ("", "empty_key"),
        ("k", "value_too_long"),
    ]


@pytest.mark.parametrize(
    ("text", "code"),
    [("team=red\r", "line_end"), ("\ufeffteam=red", "byte_order_mark")],
    ids=["CRLF", "byte order mark"],
)
def test_line_end_and_bom_are_refused(text: str, code: str) -> None:
    assert errors_of([text]) == [(text, code)]
    key = text.replace("=red", "")
    assert errors_of([], [key]) == [(key, code)]
    with pytest.raises(InvalidMetadata) as caught:
        pair_arguments.parse_bulk([text], [key], [text])
    assert [error.code for error in caught.value.errors] == [code] * 3
