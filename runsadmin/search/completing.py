"""Finds what is being typed at a position of a search, which may be incomplete or invalid."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from runsadmin.search.fields import KINDS, METADATA
from runsadmin.search.nodes import Field

# Stands for the cursor, so that even an empty word or value has a character.
_CURSOR = "\ue000"
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_FIELD = re.compile(r'(metadata\.(?:"(?:[^"\\]|\\.)*"|[^\s":()]+)|[a-z_]+):')
_KEY = re.compile(r'metadata\.(?:"(?:[^"\\]|\\.)*"?|[^\s":()]*)')
_VALUE = re.compile(r'(?:[><]=?|=)?(?:"(?:[^"\\]|\\.)*"?\*?|\[[^\]]*\]?|[^\s()"]*)')


@dataclass(frozen=True)
class Typed:
    """What is being typed: the part of the search from `begin` to `end`, and its `text` up to the cursor, unquoted.

    The text is a value of `field`. Without a field, it is a word, the name of a field or, if `is_key`, a metadata key.
    """

    begin: int
    end: int
    text: str
    field: Field | None = None
    is_key: bool = False


def typed_at(search: str, cursor: int) -> Typed | None:
    """What is being typed with the cursor after this many characters. None if nothing can be completed there."""
    marked = search[:cursor] + _CURSOR + search[cursor:]
    for begin, end, field, is_key in _parts(marked):
        if not begin <= cursor < end:
            continue
        if begin == cursor and search[:cursor].endswith(('"', ")", "]")):
            return None
        text = marked[begin:cursor]
        return Typed(begin, end - 1, _unquoted(text.partition(".")[2] if is_key else text), field, is_key)
    return None


def _parts(text: str) -> Iterator[tuple[int, int, Field | None, bool]]:
    """Each word, value and name: where it begins and ends, the field of a value, and whether it is a metadata key."""
    groups: list[Field | None] = []  # The field of each open parenthesis, if it groups values.
    at = 0
    while at < len(text):
        group = groups[-1] if groups else None
        if text[at] == "(":
            groups.append(group)
        elif text[at] == ")":
            groups = groups[:-1]
        if text[at].isspace() or text[at] in "()-":
            at += 1
        elif group is None and (name := _FIELD.match(text, at)) and (field := _field(name[1])):
            at = name.end()
            if text[at : at + 1] == "(":
                groups.append(field)
                at += 1
            else:
                end = _end_of_value(text, at)
                yield at, end, field, False
                at = end
        else:
            key = _KEY.match(text, at) if group is None else None
            end = key.end() if key else _end_of_value(text, at)
            yield at, end, group, key is not None
            at = end


def _end_of_value(text: str, at: int) -> int:
    """Where the value that begins here ends. It has at least one character, unless a space follows."""
    found = _VALUE.match(text, at)
    return max(found.end() if found else at, at + (not text[at : at + 1].isspace()))


def _field(name: str) -> Field | None:
    """None if there is no such field."""
    if name.startswith(f"{METADATA}."):
        return Field(METADATA, _unquoted(name.partition(".")[2]))
    return Field(name) if name in KINDS else None


def _unquoted(text: str) -> str:
    return _ESCAPE.sub(r"\1", text[1:].removesuffix('"')) if text.startswith('"') else text
