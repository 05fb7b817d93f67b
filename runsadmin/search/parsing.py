"""Parses text into the tree of a search."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lark import Lark, Token, Transformer, UnexpectedInput, v_args
from lark.lark import PostLex

from runsadmin.errors import InvalidSearch
from runsadmin.search import checks
from runsadmin.search.fields import METADATA, Kind
from runsadmin.search.nodes import (
    Between,
    Compare,
    Equal,
    Exists,
    Field,
    Node,
    Not,
    Prefix,
    Term,
    Test,
    Word,
    all_of,
    any_of,
    is_number,
)
from runsadmin.search.syntax_errors import explained
from runsadmin.text import is_text

MAX_LENGTH = 10_000
MAX_TERMS = 100
MAX_DEPTH = 30

_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_NOT_PLAIN = re.compile("[*“”„«»]")

# A test whose field is not known yet.
type _Tests = Callable[[Field], Node]


def parse(text: str) -> Node | None:
    """The tree of a search; None for an empty one, which every run matches. Raises InvalidSearch."""
    if not text:
        return None
    if len(text) > MAX_LENGTH:
        raise InvalidSearch(f"A search can have at most {MAX_LENGTH:,} characters; this one has {len(text):,}.")
    if not is_text(text):
        position = next(at for at, character in enumerate(text, 1) if not is_text(character))
        raise InvalidSearch("a search cannot contain U+0000 or a lone surrogate. Remove it.", position)
    try:
        node: Node | None = _PARSER.parse(text)  # type: ignore[assignment] # The transformer makes it.
    except UnexpectedInput as error:
        raise explained(error, text) from None
    return node


def term(name: str, test: Test) -> Term:
    """Raises ValueError for a test that the field does not permit."""
    field = Field(name)
    checks.check(field, test)
    return Term(field, test)


class _Limits(PostLex):
    """Checks limits before the tree is made, since a deep tree would exhaust the stack."""

    always_accept = ()

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        terms = exclusions = 0
        levels: list[int] = []  # How deep each open parenthesis nests: itself and the exclusions before it.
        in_range = False
        for token in stream:
            match token.type:
                case "_NOT" | "_MINUS":
                    exclusions += 1
                case "_LPAR":
                    levels.append(exclusions + 1)
                    exclusions = 0
                case "_RPAR" if levels:
                    levels.pop()
                case "_LSQB" | "_RSQB":
                    in_range = token.type == "_LSQB"
                    terms += in_range
                case "WORD" | "VALUE" | "ITEM" | "QUOTED" if not in_range:
                    terms += 1
                    exclusions = 0
            if sum(levels) + exclusions > MAX_DEPTH:
                raise _error(token, f"parentheses and exclusions can be nested at most {MAX_DEPTH} deep.")
            if terms > MAX_TERMS:
                raise _error(token, f"a search can have at most {MAX_TERMS} terms.")
            yield token


@v_args(inline=True)
class _Builder(Transformer[Token, Node | None]):
    """Makes the tree. The methods have the names of the grammar's rules."""

    def start(self, node: Node | None) -> Node | None:
        return node

    def any_of(self, *nodes: Node) -> Node:
        return any_of(nodes)

    def all_of(self, *nodes: Node) -> Node:
        return all_of(nodes)

    def exclude(self, node: Node) -> Node:
        return Not(node)

    def word(self, token: Token) -> Word:
        text = token.value
        if text.lower() in ("or", "and", "not", "to"):
            raise _error(token, f'operators are upper case, as in {text.upper()}; the word needs quotes: "{text}".')
        if text == "*":
            raise _error(token, "every run matches *; expected a word or its prefix, or field:* for any value.")
        return Word(_plain(text.removesuffix("*"), token))

    def quoted_word(self, token: Token, star: Token | None) -> Word:
        if not (text := _unquoted(token)):
            raise _error(token, "a word cannot be empty.")
        return Word(text)

    def term(self, token: Token, tests: _Tests) -> Node:
        return tests(_field(token))

    def any_test(self, *tests: _Tests) -> _Tests:
        return lambda field: any_of(test(field) for test in tests)

    def all_tests(self, *tests: _Tests) -> _Tests:
        return lambda field: all_of(test(field) for test in tests)

    def exclude_test(self, test: _Tests) -> _Tests:
        return lambda field: Not(test(field))

    def value(self, token: Token) -> _Tests:
        text = token.value
        if text == "*":
            return _term(token, Exists())
        if text.endswith("*"):
            return _term(token, Prefix(_plain(text[:-1], token)))
        return _term(token, Equal(_plain(text, token)))

    def quoted_value(self, token: Token, star: Token | None) -> _Tests:
        text = _unquoted(token)
        if star is None:
            return _term(token, Equal(text))
        return _term(token, Prefix(text) if text else Exists())

    def compare(self, sign: Token, token: Token) -> _Tests:
        text = _compared(token)
        return _term(token, Equal(text) if sign == "=" else Compare(sign.value, text), token)

    def between(self, low: Token, high: Token) -> _Tests:
        ends = (None if end == "*" else _compared(end) for end in (low, high))
        return _term(low, Between(*ends), low, high)


def _term(token: Token, test: Test, *compared: Token) -> _Tests:
    """Errors are reported at `token`."""

    def term(field: Field) -> Term:
        for value in compared:
            if field.kind is Kind.TEXT and is_number(value):
                why = f"{field} is compared as text, where 10 is less than 9"
                raise _error(value, f'{why}; expected quotes if that is meant: "{value}".')
        with _reported_at(token):
            checks.check(field, test)
        return Term(field, test)

    return term


def _field(token: Token) -> Field:
    written = token.value[:-1]
    name, _, key = written.partition(".")
    with _reported_at(token):
        if name != METADATA or not key:
            return checks.field(written.removesuffix("."), None)
        return checks.field(name, _unquoted(token, key) if key.startswith('"') else _plain(key, token))


def _plain(text: str, token: Token) -> str:
    """A text without quotes. Raises InvalidSearch if it has characters that may be meant as something else."""
    if found := _NOT_PLAIN.search(text):
        if found[0] != "*":
            raise _error(token, f'{found[0]} has no meaning here; expected straight quotes: "…".')
        raise _error(token, _STAR_IN_FRONT if text.startswith("*") else _STAR_INSIDE)
    return text


_STAR_IN_FRONT = (
    "a text can be searched by its prefix only, since no index finds what ends with it; expected * at the end, or"
    ' quotes if * is meant literally: "*".'
)
_STAR_INSIDE = '* is possible at the end of a value or word only; expected quotes if it is meant literally: "a*b".'


def _unquoted(token: Token, text: str | None = None) -> str:
    text = (token.value if text is None else text)[1:-1]
    if wrong := next((found for found in _ESCAPE.findall(text) if found not in '"\\'), None):
        raise _error(token, f'\\{wrong} has no meaning in quotes; expected \\" for a quote, or \\\\ for a backslash.')
    return _ESCAPE.sub(r"\1", text)


def _compared(token: Token) -> str:
    return _unquoted(token) if token.type == "QUOTED" else _plain(token.value, token)


@contextmanager
def _reported_at(token: Token) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise _error(token, str(error)) from None


def _error(token: Token, message: str) -> InvalidSearch:
    return InvalidSearch(message, (token.start_pos or 0) + 1)


_PARSER = Lark(
    Path(__file__).with_name("grammar.lark").read_text(encoding="utf-8"),
    parser="lalr",
    lexer="contextual",
    postlex=_Limits(),
    transformer=_Builder(),
)
