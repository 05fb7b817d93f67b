"""The tree of a search. Its nodes are values, which `str` writes in the search language.

`parse(str(node)) == node` for every node that `parse` returns, and for what `all_of`, `any_of` and `equal` make.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from runsadmin.search.fields import KINDS, METADATA, Kind

# What needs no quotes: as a value, as a key, and as a word.
_PLAIN_VALUE = re.compile(r"(?!(?:OR|AND|NOT|TO)$)[\w.+-][\w.:/@+-]*")
_PLAIN_KEY = re.compile(r"[\w./@+-]+")
_PLAIN_WORD = re.compile(r"(?!(?:or|and|not|to)$)[\w.][\w./@+-]*", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d*)?")


@dataclass(frozen=True)
class Field:
    """A field of a run, or its metadata with this key."""

    name: str
    key: str | None = None

    @property
    def kind(self) -> Kind:
        return Kind.TEXT if self.name == METADATA else KINDS[self.name]

    def __str__(self) -> str:
        if self.key is None:
            return self.name
        return f"{self.name}.{self.key if _PLAIN_KEY.fullmatch(self.key) else _quoted(self.key)}"


@dataclass(frozen=True)
class Exists:
    """There is a value."""


@dataclass(frozen=True)
class Equal:
    """The value is this one. A time is within this year, month, day, minute or second."""

    value: str


@dataclass(frozen=True)
class Prefix:
    """The value begins with this text, which is not empty."""

    text: str


@dataclass(frozen=True)
class Compare:
    """The value is greater or less than this one. The sign is >, >=, < or <=."""

    sign: str
    value: str


@dataclass(frozen=True)
class Between:
    """The value is in this range, ends included. One end may be None: the range is open there."""

    low: str | None
    high: str | None


type Test = Exists | Equal | Prefix | Compare | Between


@dataclass(frozen=True)
class Term:
    """A test of a field. The values are text as in the search; `values` reads them."""

    field: Field
    test: Test

    def __str__(self) -> str:
        return f"{self.field}:{_test(self.test, self.field.kind)}"


@dataclass(frozen=True)
class Word:
    """An id, the model or a metadata value begins with this text, which is not empty."""

    text: str

    def __str__(self) -> str:
        return self.text if _PLAIN_WORD.fullmatch(self.text) else _quoted(self.text)


@dataclass(frozen=True)
class Not:
    node: "Node"

    def __str__(self) -> str:
        return f"-{_nested(self.node)}"


@dataclass(frozen=True)
class And:
    """At least two nodes, none of which is an And itself."""

    nodes: tuple["Node", ...]

    def __str__(self) -> str:
        return " ".join(map(_nested, self.nodes))


@dataclass(frozen=True)
class Or:
    """At least two nodes, none of which is an Or itself."""

    nodes: tuple["Node", ...]

    def __str__(self) -> str:
        return " OR ".join(map(_nested, self.nodes))


type Node = And | Or | Not | Term | Word


def all_of(nodes: Iterable[Node]) -> Node:
    """A node for the runs that match all of these nodes. At least one node is required."""
    flat = tuple(dict.fromkeys(_flattened(And, nodes)))
    return And(flat) if len(flat) > 1 else flat[0]


def any_of(nodes: Iterable[Node]) -> Node:
    """A node for the runs that match any of these nodes. At least one node is required."""
    flat = tuple(dict.fromkeys(_flattened(Or, nodes)))
    return Or(flat) if len(flat) > 1 else flat[0]


def equal(field: str, value: str) -> Term:
    """A node for the runs whose field has this value."""
    return Term(Field(field), Equal(value))


def is_number(text: str) -> bool:
    """Whether a text looks like a number. Compared as text, 10 is less than 9."""
    return _NUMBER.fullmatch(text) is not None


def _flattened(kind: type[And | Or], nodes: Iterable[Node]) -> Iterator[Node]:
    for node in nodes:
        if isinstance(node, kind):
            yield from node.nodes
        else:
            yield node


def _nested(node: Node) -> str:
    return f"({node})" if isinstance(node, And | Or) else str(node)


def _test(test: Test, kind: Kind) -> str:
    match test:
        case Exists():
            return "*"
        case Equal(value):
            return _value(value)
        case Prefix(text):
            return f"{_value(text)}*"
        case Compare(sign, value):
            return f"{sign}{_compared(value, kind)}"
        case Between(low, high):
            return f"[{_end(low, kind)} TO {_end(high, kind)}]"


def _value(text: str) -> str:
    return text if _PLAIN_VALUE.fullmatch(text) else _quoted(text)


def _compared(text: str, kind: Kind) -> str:
    """The text of a comparison. A text that looks like a number must be in quotes there."""
    return _quoted(text) if kind is Kind.TEXT and is_number(text) else _value(text)


def _end(text: str | None, kind: Kind) -> str:
    return "*" if text is None else _compared(text, kind)


def _quoted(text: str) -> str:
    escaped = re.sub(r'(["\\])', r"\\\1", text)
    return f'"{escaped}"'
