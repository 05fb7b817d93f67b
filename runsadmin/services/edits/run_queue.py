"""Queues the interactive edits of this process by run, so that only the first edit of each run is pushed.

The others wait without queries until the edits before them have ended, so that many simultaneous requests for one run
cost no more than consecutive ones.
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Condition

from runsadmin.models import Edit

_changed = Condition()
_queues: dict[int, set[int]] = defaultdict(set)


@dataclass(frozen=True)
class Position:
    run: int
    edit: int

    @property
    def is_first(self) -> bool:
        with _changed:
            return self.edit == min(_queues[self.run])

    def wait(self, seconds: float) -> None:
        """Waits for this many seconds, or until an edit leaves its queue, whichever run the queue belongs to."""
        with _changed:
            _changed.wait(seconds)


@contextmanager
def queued(edit: Edit) -> Iterator[Position]:
    position = Position(edit.run_id, edit.pk)
    with _changed:
        _queues[position.run].add(position.edit)
    try:
        yield position
    finally:
        with _changed:
            _queues[position.run].remove(position.edit)
            if not _queues[position.run]:
                del _queues[position.run]
            _changed.notify_all()
