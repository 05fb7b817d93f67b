"""Explains syntax errors: what is wrong where the grammar does not match, and what was expected there."""

import re
from itertools import islice

from lark import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from runsadmin.errors import InvalidSearch

# The phrases for expected tokens, in the order in which messages list them.
_EXPECTED = {
    "FIELD": "a term (field:value, metadata.KEY:value or a word)",
    "VALUE": 'a value (text, "text in quotes", prefix*, *, >5, [1 TO 5] or a group in parentheses)',
    "ITEM": 'a value (text, "text in quotes", prefix*, *, >5 or [1 TO 5])',
    "EDGE": "an end of the range (a value, or * if it is open)",
    "SIGNED": "a value",
    "STAR": "*",
    "_OR": "OR",
    "_AND": "AND",
    "_TO": "TO",
    "_RSQB": "]",
    "_RPAR": ")",
    "$END": "the end",
}
# The text that is found, the token that is expected (any if empty), and a hint. The first match applies.
_HINTS = (
    (r'"(?:[^"\\]|\\.)*$', "", "this quote is not closed"),
    (r'"', "", "a space must follow the closing quote"),
    (r'[^\s()":]*:(?:\s|$)', "", "a value must follow the colon directly"),
    (r"[A-Za-z_][\w.]*:", "ITEM", "a group has values of one field; a value that has a colon needs quotes"),
    (r"-(?:\s|$)", "", "what is excluded must follow the minus directly"),
    (r"\*", "", "* must follow a value or word directly"),
    (r"[\[{]", "", "a range is written field:[1 TO 5]; other text that begins like this needs quotes"),
    (r"[><=]+(?:[\s)]|$)", "", "a value must follow the sign directly"),
    (r"[><=]", "", "a value that begins like this needs quotes"),
    (r"(?:OR|AND|NOT|TO)(?:[\s()\]]|$)", "", "this operator has nothing to apply to; the word itself needs quotes"),
    (r"[+!&|~]", "FIELD", "a word that begins like this needs quotes; operators are OR, AND, NOT and -"),
    (r"\)[^\s)]", "", "a space must follow the parenthesis"),
    (r"\)", "$END", "this parenthesis is not opened"),
    (r'[^\s()]*"', "", "a quote must enclose the whole text"),
    (r"[^\s()]+\(", "", "text that has parentheses needs quotes"),
)


def explained(error: UnexpectedInput, text: str) -> InvalidSearch:
    position = len(text) if _is_end(error) else error.pos_in_stream or 0
    found = text[position:]
    parts = [f"{_shortened(found)} is not understood" if found else "the search is not complete"]
    names = _names(error)
    if found:
        hints = (hint for pattern, name, hint in _HINTS if not name or name in names if re.match(pattern, found))
        parts += islice(hints, 1)
    if expected := [phrase for name, phrase in _EXPECTED.items() if name in names]:
        parts.append(f"expected {_either(expected)}")
    return InvalidSearch(f"{'; '.join(parts)}.", position + 1)


def _is_end(error: UnexpectedInput) -> bool:
    return isinstance(error, UnexpectedToken) and error.token.type == "$END"


def _names(error: UnexpectedInput) -> set[str]:
    match error:
        case UnexpectedToken():
            names = set(error.accepts or error.expected)
        case UnexpectedCharacters():
            names = set(error.allowed or ())
        case _:
            return set()
    if "VALUE" in names and "FIELD" not in names and "SIGN" not in names:  # After a sign.
        names = {"SIGNED"}
    return names - {"STAR"} if len(names) > 1 else names


def _either(phrases: list[str]) -> str:
    *others, last = phrases
    return f"{', '.join(others)} or {last}" if others else last


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 20 else f"{text[:20]}…")
