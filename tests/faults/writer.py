"""Another client that keeps editing the same runs upstream, and a check that none of its pairs is lost.

The API has no conditional write, so our write overwrites a pair that was written in the race window: between our fetch
and our write. A pair that was written at any other time must still be there. All times are from the sandbox's clock.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.sandbox_client import Json, Sandbox

KEY = "writer"


@dataclass
class Writer:
    """Keeps changing one pair of each run, with a pause after each round."""

    sandbox: Sandbox
    run_ids: list[str]
    pause: float = 0.01
    written: dict[str, list[tuple[float, str]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)

    def _write(self) -> None:
        number = 0
        while not self._stopping.is_set():
            number += 1
            for run_id in self.run_ids:
                at = self.sandbox.add_pairs(run_id, {KEY: str(number)})
                if at is not None:
                    self.written.setdefault(run_id, []).append((at, str(number)))
            self._stopping.wait(self.pause)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def lost(self, log: list[Json], *, max_delay: float = 0.0) -> list[str]:
        """The ids of runs without the pair that was written to them last, unless it was written in a race window.

        A write can take effect up to `max_delay` seconds after it was received.
        """
        lost = []
        for run_id, written in self.written.items():
            at, value = written[-1]
            metadata = self.sandbox.metadata(run_id)
            if (metadata or {}).get(KEY) != value and not _in_race_window(run_id, at, log, max_delay):
                lost.append(run_id)
        return lost


def _in_race_window(run_id: str, at: float, log: list[Json], max_delay: float) -> bool:
    """Whether `at` is between one of our fetches of this run and the write that followed."""
    fetched_at = None
    for call in (call for call in log if run_id in call["path"].split("/")):
        if call["method"] == "GET":
            fetched_at = call["at"]
        elif fetched_at is not None and fetched_at <= at <= (call["received_at"] or call["at"]) + max_delay:
            return True
    return False


@contextmanager
def writing(sandbox: Sandbox, *run_ids: str, pause: float = 0.01) -> Iterator[Writer]:
    writer = Writer(sandbox, list(run_ids), pause)
    writer.start()
    try:
        time.sleep(0.03)  # Let it write something before the test begins.
        yield writer
    finally:
        writer.stop()
