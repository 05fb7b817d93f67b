"""Checks the record of the sandbox: whether a write was repeated without a fetch, and which pairs were lost."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson

from tests.faults.writer import KEY

# The longest possible race window, in seconds. A pair that is lost later was lost outside the race window.
MAX_RACE_WINDOW = 4.0


@dataclass(frozen=True)
class Event:
    """A request: `fetch` and `write` are our GET and POST of a run, `outside` is a change by another client.

    `before` is the metadata of the run before the request.
    """

    kind: str
    run: str
    at: float
    before: dict[str, Any] | None
    body: Any

    @property
    def intended(self) -> dict[str, Any]:
        """The metadata that a write sends."""
        return self.body["metadata"] or {}

    def value_before(self, key: str) -> object:
        return (self.before or {}).get(key)


def read(record: Path) -> list[Event]:
    """The events so far. A line that is still being written is left for the next call."""
    lines = record.read_bytes().split(b"\n")[:-1] if record.exists() else ()
    return [Event(**orjson.loads(line)) for line in lines]


def by_run(events: Iterable[Event]) -> dict[str, list[Event]]:
    runs: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        runs[event.run].append(event)
    return runs


def writes(events: Iterable[Event]) -> list[Event]:
    return [event for event in events if event.kind == "write"]


def repeated(events: Iterable[Event]) -> list[Event]:
    """Writes that follow another write of their run without a fetch in between."""
    return [
        second
        for of_run in by_run(events).values()
        for first, second in pairwise(event for event in of_run if event.kind != "outside")
        if first.kind == second.kind == "write"
    ]


def lost_in_race_window(events: Iterable[Event]) -> list[Event]:
    """Writes that removed a pair which another client had set between the fetch and the write."""
    return [write for write, was_in_window in _overwriting(events) if was_in_window]


def lost(events: Iterable[Event]) -> list[Event]:
    """Writes that removed a pair outside the race window: a fetch had shown it, or should have."""
    return [write for write, was_in_window in _overwriting(events) if not was_in_window]


def _overwriting(events: Iterable[Event]) -> Iterator[tuple[Event, bool]]:
    """The writes that overwrote the pair of another client, and whether it was set in the race window."""
    for of_run in by_run(events).values():
        fetches: list[Event] = []
        for event in of_run:
            if event.kind == "fetch":
                fetches.append(event)
            elif event.kind == "write":
                sets = event.intended.get(KEY)
                if sets != event.value_before(KEY):
                    recent = [fetch for fetch in fetches if event.at - fetch.at <= MAX_RACE_WINDOW]
                    yield event, any(fetch.value_before(KEY) == sets for fetch in recent)
                fetches = []
