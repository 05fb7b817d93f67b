"""What the record of the sandbox proves: that nothing was sent twice unseen, and whose pairs were lost."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson

from tests.faults.writer import KEY

# The longest time from a look to the write that it is for: longer ones are no excuse.
GAP = 4.0


@dataclass(frozen=True)
class Event:
    """`look` and `write` are our GET and POST of a run, `other` is somebody else's change."""

    what: str
    run: str
    at: float
    had: dict[str, Any] | None
    asks: Any

    @property
    def asked(self) -> dict[str, Any]:
        """The map that a write asks for."""
        return self.asks["metadata"] or {}

    def had_of(self, key: str) -> object:
        return (self.had or {}).get(key)


def read(record: Path) -> list[Event]:
    return [Event(**orjson.loads(line)) for line in record.read_bytes().splitlines()] if record.exists() else []


def by_run(events: Iterable[Event]) -> dict[str, list[Event]]:
    runs: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        runs[event.run].append(event)
    return runs


def writes(events: Iterable[Event]) -> list[Event]:
    return [event for event in events if event.what == "write"]


def repeated(events: Iterable[Event]) -> list[Event]:
    """Writes that follow another write of their run without a look in between."""
    return [
        second
        for of_run in by_run(events).values()
        for first, second in pairwise(event for event in of_run if event.what != "other")
        if first.what == second.what == "write"
    ]


def lost_in_gaps(events: Iterable[Event]) -> list[Event]:
    """Writes that took a pair of somebody else's away which came between their look and them. Nobody can help it."""
    return [write for write, excused in _overwriting(events) if excused]


def lost(events: Iterable[Event]) -> list[Event]:
    """Writes that took a pair of somebody else's away which a look had shown, or could have."""
    return [write for write, excused in _overwriting(events) if not excused]


def _overwriting(events: Iterable[Event]) -> Iterator[tuple[Event, bool]]:
    for of_run in by_run(events).values():
        looks: list[Event] = []
        for event in of_run:
            if event.what == "look":
                looks.append(event)
            elif event.what == "write":
                sets = event.asked.get(KEY)
                if sets != event.had_of(KEY):
                    yield event, any(look.had_of(KEY) == sets and event.at - look.at <= GAP for look in looks)
                looks = []
