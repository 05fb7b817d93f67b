"""All that one sandbox knows."""

import asyncio
from collections.abc import Coroutine

from sandbox.faults import Faults
from sandbox.log import Log
from sandbox.rate import Allowance
from sandbox.settings import Settings
from sandbox.store import Store


class Sandbox:
    """Only the store outlasts the process. `settings` are those that a reset goes back to."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self.store = store
        self.settings = self._initial_settings = settings
        self.allowance = Allowance()
        self.faults = Faults()
        self.log = Log()
        self._in_progress: set[asyncio.Task[None]] = set()

    def reset(self) -> None:
        """Forgets everything, what was still to happen included."""
        for task in self._in_progress:
            task.cancel()
        self.store.reset()
        self.settings = self._initial_settings
        self.allowance = Allowance()
        self.faults.clear()
        self.log.clear()

    def let(self, coroutine: Coroutine[None, None, None]) -> None:
        """Lets it go on while others are served, until it ends or everything is forgotten."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._in_progress.add(task)
        task.add_done_callback(self._in_progress.discard)
