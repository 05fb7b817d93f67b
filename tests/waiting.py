"""Waiting for what has to become true, and not for a time."""

import time
from collections.abc import Callable


def until[T](condition: Callable[[], T], *, seconds: float = 30) -> T:
    """Returns what the condition says, once that is true. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not (said := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError("It did not happen in time.")
        time.sleep(0.02)
    return said
