"""All that one sandbox knows."""

import asyncio
from collections.abc import Coroutine

from runsadmin.sandbox.faults import Faults
from runsadmin.sandbox.log import Log
from runsadmin.sandbox.rate import Allowance
from runsadmin.sandbox.settings import Settings
from runsadmin.sandbox.store import Store


class Sandbox:
    """Only the store outlasts the process. `settings` are those that a reset goes back to."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self.store = store
        self.settings = self._initial_settings = settings
        self.allowance = Allowance()
        self.faults = Faults()
        self.log = Log()
        self._going_on: set[asyncio.Task[None]] = set()

    def reset(self) -> None:
        """Forgets everything, what was still to happen included."""
        for task in self._going_on:
            task.cancel()
        self.store.reset()
        self.settings = self._initial_settings
        self.allowance = Allowance()
        self.faults.clear()
        self.log.clear()

    def let(self, coroutine: Coroutine[None, None, None]) -> None:
        """Lets it go on while others are served, until it ends or everything is forgotten."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._going_on.add(task)
        task.add_done_callback(self._going_on.discard)
