"""Validates the ids of runs and threads.

Each upstream has its own format: `run_abc`, bare hex, `run 1`, `abc+def==`, `x@y`, `2024/05/1`. An id is valid if it
can be stored, sent as one segment of a path, and shown on one line.
"""

import re
from typing import TypeGuard
from urllib.parse import quote

from runsadmin.errors import InvalidId
from runsadmin.text import is_text

MAX_LENGTH = 128
RULE = (
    f"ids have 1 to {MAX_LENGTH} characters, no U+0000 or other control character, and no part between slashes that is"
    " empty, . or .."
)

# Most ids match this: they are valid and need no escaping in a path.
_PLAIN = re.compile(r"[A-Za-z0-9_:-][A-Za-z0-9_.:-]{0,127}")
# Control characters and line separators.
_UNPRINTABLE = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029]")

# A proxy may decode %2F, and then merge slashes and resolve dots, so that the path leads to another resource.
_LEADS_ELSEWHERE = re.compile(r"(^|/)\.{0,2}(/|$)")


def is_id(value: object) -> TypeGuard[str]:
    if not isinstance(value, str):
        return False
    return _PLAIN.fullmatch(value) is not None or (
        0 < len(value) <= MAX_LENGTH
        and _LEADS_ELSEWHERE.search(value) is None
        and is_text(value)
        and _UNPRINTABLE.search(value) is None
    )


def shown(value: str) -> str:
    """Any text for a message: shortened, and with control characters escaped."""
    return repr(value if len(value) <= 60 else f"{value[:60]}…")


def check_id(value: str) -> str:
    """Raises InvalidId."""
    if not is_id(value):
        raise InvalidId(f"{shown(value)} is not an id: {RULE}.")
    return value


def in_path(value: str) -> str:
    """The id as one segment of a path. Raises InvalidId."""
    return value if _PLAIN.fullmatch(value) else quote(check_id(value), safe="")
