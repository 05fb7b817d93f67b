"""Waiting for a condition, not for a time."""

import time
from collections.abc import Callable


def until[T](condition: Callable[[], T], *, seconds: float = 30) -> T:
    """Returns the condition's value once it is true. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError("It did not happen in time.")
        time.sleep(0.02)
    return value
