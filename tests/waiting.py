"""Waits for a condition instead of a fixed time."""

import time
from collections.abc import Callable


def until[T](condition: Callable[[], T], *, seconds: float = 30) -> T:
    """Returns the condition's value as soon as it is true, or raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError("The condition was not met in time.")
        time.sleep(0.02)
    return value
