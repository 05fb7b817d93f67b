"""The limit of requests per minute."""

import math
import time


class Allowance:
    """Limits bursts to the requests of one second: with 600 per minute, to 10."""

    def __init__(self) -> None:
        self._left = math.inf
        self._at = time.monotonic()

    def take(self, per_minute: int) -> bool:
        """Whether one more request is allowed now."""
        per_second = per_minute / 60
        now = time.monotonic()
        self._left = min(max(1.0, per_second), self._left + (now - self._at) * per_second)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
