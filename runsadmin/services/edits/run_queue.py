"""The edits that people wait for in this process, in their order: of each run only the first asks for its turn.

The others wait without the database until those before them are through, so that many requests for one run at once
cost no more than one after the other.
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
class Place:
    run: int
    edit: int

    @property
    def is_first(self) -> bool:
        with _changed:
            return self.edit == min(_queues[self.run])

    def wait(self, seconds: float) -> None:
        """Until the time is over, or another edit is through: it may have been one of this run."""
        with _changed:
            _changed.wait(seconds)


@contextmanager
def queued(edit: Edit) -> Iterator[Place]:
    place = Place(edit.run_id, edit.pk)
    with _changed:
        _queues[place.run].add(place.edit)
    try:
        yield place
    finally:
        with _changed:
            _queues[place.run].remove(place.edit)
            if not _queues[place.run]:
                del _queues[place.run]
            _changed.notify_all()
