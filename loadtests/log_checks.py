"""What the record of the sandbox proves: that no write was repeated without a fetch, and which pairs were lost."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson

from tests.faults.writer import KEY

# The longest time from a fetch to its write, in seconds. A pair lost later than that counts as lost.
MAX_RACE_WINDOW = 4.0


@dataclass(frozen=True)
class Event:
    """`fetch` and `write` are our GET and POST of a run, `outside` is a change by another client."""

    what: str
    run: str
    at: float
    had: dict[str, Any] | None
    asks: Any

    @property
    def asked(self) -> dict[str, Any]:
        """The map that a write sends."""
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
    """Writes that follow another write of their run without a fetch in between."""
    return [
        second
        for of_run in by_run(events).values()
        for first, second in pairwise(event for event in of_run if event.what != "outside")
        if first.what == second.what == "write"
    ]


def lost_in_race_window(events: Iterable[Event]) -> list[Event]:
    """Writes that removed a pair which another client set between the fetch and the write."""
    return [write for write, excused in _overwriting(events) if excused]


def lost(events: Iterable[Event]) -> list[Event]:
    """Writes that removed a pair which a fetch had shown, or could have shown."""
    return [write for write, excused in _overwriting(events) if not excused]


def _overwriting(events: Iterable[Event]) -> Iterator[tuple[Event, bool]]:
    for of_run in by_run(events).values():
        fetches: list[Event] = []
        for event in of_run:
            if event.what == "fetch":
                fetches.append(event)
            elif event.what == "write":
                sets = event.asked.get(KEY)
                if sets != event.had_of(KEY):
                    yield (
                        event,
                        any(fetch.had_of(KEY) == sets and event.at - fetch.at <= MAX_RACE_WINDOW for fetch in fetches),
                    )
                fetches = []
