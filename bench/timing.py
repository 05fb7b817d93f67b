"""Durations in milliseconds, summarized."""

import math
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any


def summary(milliseconds: Sequence[float]) -> dict[str, float]:
    ordered = sorted(milliseconds)
    return {
        "median_ms": median(ordered),
        "p95_ms": ordered[math.ceil(0.95 * len(ordered)) - 1],
        "max_ms": ordered[-1],
        "repeats": len(ordered),
    }


def timed(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - began)


def repeated(call: Callable[[], Any], repeats: int, *, seconds: float) -> dict[str, float]:
    """Calls once to warm up, and then `repeats` times or, if that would take longer than `seconds`, less often."""
    first = timed(call)
    repeats = min(repeats, int(1000 * seconds / first))
    return summary([timed(call) for _ in range(repeats)] or [first])
