"""Makes text safe to store and send, and writes counts as text.

PostgreSQL cannot store U+0000, and UTF-8 cannot encode a lone surrogate, which JSON can contain as an escape.
"""

import json
import re

_INVALID = re.compile("[\0\ud800-\udfff]")


def is_text(value: str) -> bool:
    """Whether every character can be stored and sent."""
    return (value.isascii() and "\0" not in value) or _INVALID.search(value) is None


def clean(value: str) -> str:
    """The text with U+FFFD in place of each character that cannot be stored or sent."""
    return value if is_text(value) else _INVALID.sub("\ufffd", value)


def printable(value: object) -> str:
    """Any JSON value as text that can be encoded. Lone surrogates and U+0000 are written as escapes."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if is_text(text) else text.encode(errors="backslashreplace").decode().replace("\0", "\\u0000")


def counted(count: int, noun: str) -> str:
    """`1 edit`, `1,000 edits`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
