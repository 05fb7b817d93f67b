"""Invalid JSON is read as far as possible; written JSON is always valid."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runsadmin import lenient_json
from runsadmin.lenient_json import Damaged

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(VALUES)
def test_valid_json_is_read_unchanged(value: Any) -> None:
    assert lenient_json.read(json.dumps(value).encode()) == value
    assert lenient_json.loads(lenient_json.dumps(value)) == value


@pytest.mark.parametrize(
    "literal", [b"NaN", b"Infinity", b"-Infinity", b"1e400", b"1" * 70], ids=["nan", "inf", "-inf", "huge", "long"]
)
def test_bad_number_is_null_in_damaged_object(literal: bytes) -> None:
    value = lenient_json.read(b'{"a": 1, "b": ' + literal + b"}")
    assert value == {"a": 1, "b": None}
    assert isinstance(value, Damaged)
    assert value.unreadable == {"b"}


def test_deep_nesting_damages_its_field() -> None:
    value = lenient_json.read(b'{"a": 1, "deep": ' + b"[" * 2000 + b"]" * 2000 + b"}")
    assert value["a"] == 1
    assert value.unreadable == {"deep"}


def test_lone_surrogate_is_kept() -> None:
    value = lenient_json.read(rb'{"a": "\ud83d"}')
    assert value == {"a": "\ud83d"}
    assert lenient_json.loads(lenient_json.dumps(value)) == value


def test_declared_encoding_and_bom_are_read() -> None:
    assert lenient_json.read(b"\xef\xbb\xbf[1]") == [1]
    assert lenient_json.read('{"a": "é"}'.encode("latin-1"), "iso8859-1") == {"a": "é"}


@pytest.mark.parametrize("content", [b"", b"{", b"<html>", b"[1] x", b"{'a': 1}"])
def test_text_that_is_not_json_is_an_error(content: bytes) -> None:
    with pytest.raises(json.JSONDecodeError):
        lenient_json.read(content)
