"""The threads and runs of the sandbox: in memory, and in a file that survives restarts.

A record is stored as the JSON text to send. It is encoded once, when it changes, so that reading costs nothing.
"""

import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from sandbox.messages import Json
from sandbox.timeline import Key, Timeline

# The kind of a change and its JSON: one line of the journal.
type Change = tuple[bytes, bytes]

RUN, THREAD, RUN_GONE, THREAD_GONE, RESET = b"run", b"thread", b"run-gone", b"thread-gone", b"reset"

# The statuses that a run leaves on its own.
ACTIVE = frozenset({"queued", "in_progress", "cancelling"})


@dataclass(slots=True)
class Record:
    body: bytes
    key: Key

    def load(self) -> Json:
        """A copy that the caller may change and `put` back."""
        loaded: Json = orjson.loads(self.body)
        return loaded


@dataclass(slots=True)
class Run(Record):
    thread_id: str
    status: str
    since: float  # When it got this status, in time.monotonic().


@dataclass(slots=True)
class Thread(Record):
    runs: Timeline = field(default_factory=Timeline)


class Store:
    """Reads from memory. Changes are first appended to the journal, if there is one."""

    def __init__(self, directory: Path | None = None) -> None:
        self.changes = 0  # Incremented at each change, to detect whether anything was stored.
        self._forget()
        self._journal = None
        if directory is not None:
            journal = Journal(directory)
            for number, change in enumerate(journal.read(), start=1):
                try:
                    self._apply(change)
                except (KeyError, TypeError, ValueError) as error:
                    raise ValueError(f"line {number} of {journal.path} is invalid") from error
            journal.rewrite(self._snapshot())
            self._journal = journal

    def _forget(self) -> None:
        self.threads: dict[str, Thread] = {}
        self.timeline = Timeline()  # The threads in order. Each thread has a timeline of its runs.
        self.runs: dict[str, Run] = {}
        self.active: set[str] = set()
        self._arrivals = 0

    def put(self, *, threads: Iterable[Json] = (), runs: Iterable[Json] = ()) -> None:
        """Stores threads and runs unchanged, replacing those with the same ids. Creates missing threads of runs."""
        self._keep([(THREAD, orjson.dumps(thread)) for thread in threads] + [(RUN, orjson.dumps(run)) for run in runs])

    def remove_run(self, run_id: str) -> None:
        self._keep([(RUN_GONE, orjson.dumps(run_id))])

    def remove_thread(self, thread_id: str) -> None:
        """Removes the thread and its runs."""
        self._keep([(THREAD_GONE, orjson.dumps(thread_id))])

    def reset(self) -> None:
        self._keep([(RESET, b"null")])

    def _keep(self, changes: list[Change]) -> None:
        if self._journal is not None:
            self._journal.append(changes)
        for change in changes:
            self._apply(change)

    def _apply(self, change: Change) -> None:
        kind, body = change
        value = orjson.loads(body)
        if kind == RUN:
            self._put_run(value, body)
        elif kind == THREAD:
            self._put_thread(value, body)
        elif kind == RUN_GONE:
            run = self.runs.pop(value)
            self.threads[run.thread_id].runs.remove(run.key)
            self.active.discard(value)
        elif kind == THREAD_GONE:
            thread = self.threads.pop(value)
            self.timeline.remove(thread.key)
            for run_id in thread.runs.ids():
                del self.runs[run_id]
                self.active.discard(run_id)
        elif kind == RESET:
            self._forget()
        else:
            raise ValueError(f"unknown kind of change: {kind!r}")
        self.changes += 1

    def _put_run(self, value: Json, body: bytes) -> None:
        run_id, thread_id, status = value["id"], value["thread_id"], str(value.get("status"))
        old = self.runs.get(run_id)
        since = old.since if old is not None and old.status == status else time.monotonic()
        run = Run(body, self._key(value, old), thread_id, status, since)
        self.runs[run_id] = run
        if status in ACTIVE:
            self.active.add(run_id)
        else:
            self.active.discard(run_id)

        if old is not None:
            if (old.thread_id, old.key) == (thread_id, run.key):
                return
            self.threads[old.thread_id].runs.remove(old.key)
        if thread_id not in self.threads:
            thread = new_thread(thread_id, created_at_of(value))
            self._put_thread(thread, orjson.dumps(thread))
        self.threads[thread_id].runs.add(run.key)

    def _put_thread(self, value: Json, body: bytes) -> None:
        old = self.threads.get(value["id"])
        thread = Thread(body, self._key(value, old))
        if old is not None:
            thread.runs = old.runs
            self.timeline.remove(old.key)
        self.threads[value["id"]] = thread
        self.timeline.add(thread.key)

    def _key(self, value: Json, old: Record | None) -> Key:
        if old is not None:
            return created_at_of(value), old.key[1], value["id"]
        self._arrivals += 1
        return created_at_of(value), self._arrivals, value["id"]

    def _snapshot(self) -> Iterator[Change]:
        """The shortest list of changes that leads to this state, each kind in order of arrival."""
        for thread in self.threads.values():
            yield THREAD, thread.body
        for run in self.runs.values():
            yield RUN, run.body


class Journal:
    """An append-only file of changes, one line each.

    A change is passed to the operating system in one write before the response, so it survives the death of this
    process. It is not synced to disk: a power failure may lose the latest changes.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / "journal"
        self._lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o644)  # Released when the process ends.
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateInUseError(f"another sandbox is using {directory}") from None
        self._file = self._open()

    def _open(self) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def read(self) -> Iterator[Change]:
        """Every complete change. A line without a line break was cut off while it was written, and is ignored."""
        with self.path.open("rb") as lines:
            for line in lines:
                if line.endswith(b"\n"):
                    kind, _, body = line[:-1].partition(b" ")
                    yield kind, body

    def append(self, changes: Iterable[Change]) -> None:
        """Appends all changes or, with an OSError, none of them."""
        text = encode(changes)
        end = os.fstat(self._file).st_size
        if os.write(self._file, text) != len(text):
            os.ftruncate(self._file, end)
            raise OSError(f"there is no space left for {self.path}")

    def rewrite(self, changes: Iterable[Change]) -> None:
        """Replaces all stored changes with these. If the process dies halfway, the old ones remain."""
        fresh = self.path.with_suffix(".new")
        with fresh.open("wb") as file:
            file.write(encode(changes))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path)
        os.close(self._file)
        self._file = self._open()


class StateInUseError(Exception):
    pass


def encode(changes: Iterable[Change]) -> bytes:
    return b"".join([kind + b" " + body + b"\n" for kind, body in changes])


def created_at_of(value: Json) -> float:
    """The time of creation, for sorting. Anything but a number counts as 0."""
    created_at: Any = value.get("created_at")
    return created_at if isinstance(created_at, (int, float)) else 0


def new_thread(thread_id: str, created_at: float) -> Json:
    return {"id": thread_id, "object": "thread", "created_at": int(created_at), "metadata": {}, "tool_resources": {}}
