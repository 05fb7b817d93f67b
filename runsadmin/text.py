"""Text that can be stored and sent.

PostgreSQL cannot store U+0000, and UTF-8 cannot encode a lone surrogate, which JSON can hold as an escape.
"""

import re

_NEITHER = re.compile("[\0\ud800-\udfff]")


def is_text(value: str) -> bool:
    """Whether every character can be stored and sent."""
    return _NEITHER.search(value) is None


def clean(value: str) -> str:
    """The text with U+FFFD for each character that can be neither stored nor sent."""
    return _NEITHER.sub("\ufffd", value)
