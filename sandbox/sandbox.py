"""The state of a sandbox."""

import asyncio
from collections.abc import Coroutine

from sandbox.faults import Faults
from sandbox.log import Log
from sandbox.rate import Allowance
from sandbox.settings import Settings
from sandbox.store import Store


class Sandbox:
    """Only the store survives the process. A reset restores the initial `settings`."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self.store = store
        self.settings = self._initial_settings = settings
        self.allowance = Allowance()
        self.faults = Faults()
        self.log = Log()
        self._in_progress: set[asyncio.Task[None]] = set()

    def reset(self) -> None:
        """Clears everything, and cancels responses that are still pending."""
        for task in self._in_progress:
            task.cancel()
        self.store.reset()
        self.settings = self._initial_settings
        self.allowance = Allowance()
        self.faults.clear()
        self.log.clear()

    def spawn(self, coroutine: Coroutine[None, None, None]) -> None:
        """Runs a coroutine in the background, until it ends or a reset cancels it."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._in_progress.add(task)
        task.add_done_callback(self._in_progress.discard)
