"""All that one sandbox knows."""

import asyncio
import time
from collections.abc import Coroutine

from runsadmin.sandbox.faults import Faults
from runsadmin.sandbox.log import Log
from runsadmin.sandbox.settings import Settings
from runsadmin.sandbox.store import Store


class Sandbox:
    """`initial` are the settings that a reset goes back to."""

    def __init__(self, store: Store, initial: Settings) -> None:
        self.store = store
        self.settings = initial
        self.faults = Faults()
        self.log = Log()
        self._initial = initial
        self._playing: set[asyncio.Task[None]] = set()
        self._allowance = 0.0
        self._allowance_at = time.monotonic()

    def reset(self) -> None:
        """Forgets everything, what was to happen later included."""
        for task in self._playing:
            task.cancel()
        self.store.reset()
        self.settings = self._initial
        self.faults.clear()
        self.log.clear()

    def play(self, coroutine: Coroutine[None, None, None]) -> None:
        """Lets an exchange go on while others are served, until it ends or everything is forgotten."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._playing.add(task)
        task.add_done_callback(self._playing.discard)

    def allows_another_request(self) -> bool:
        """The rate limit, spread evenly: 600 a minute are 10 in any second, and no more than 10 at once."""
        rate = self.settings.requests_per_minute
        if rate is None:
            return True
        now = time.monotonic()
        burst = max(1.0, rate / 60)
        self._allowance = min(burst, self._allowance + (now - self._allowance_at) * rate / 60)
        self._allowance_at = now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True
