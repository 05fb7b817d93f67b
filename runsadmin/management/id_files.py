"""Reads ids from a file or standard input."""

import sys
from pathlib import Path

from runsadmin import id_lists
from runsadmin.errors import InvalidList


def read(name: str, kind: id_lists.Kind) -> list[str]:
    """Reads a file, or standard input for `-`. Raises InvalidList."""
    shown = "Standard input" if name == "-" else name
    try:
        ids = id_lists.read(_content(name), kind)
    except (OSError, ValueError) as error:  # A name with U+0000 is a ValueError.
        raise InvalidList(f"{shown} cannot be read: {error}. Check its name and permissions.") from None
    except InvalidList as error:
        raise InvalidList(f"{shown} cannot be read. {error}") from None
    if not ids:
        raise InvalidList(f"{shown} holds no id. Give one id on each line.")
    return ids


def _content(name: str) -> bytes | str:
    most = id_lists.MAX_BYTES + 1
    if name == "-":
        if sys.stdin is None:  # Closed by the parent process.
            raise OSError("it is closed")
        # Read bytes if possible: the terminal's encoding may differ from the file's.
        return getattr(sys.stdin, "buffer", sys.stdin).read(most)
    with Path(name).open("rb") as file:
        return file.read(most)
