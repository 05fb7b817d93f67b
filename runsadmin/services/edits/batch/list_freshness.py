"""Checks whether the lists of a connection are up to date: compares them with our own writes of the last second."""

import time
from collections import Counter
from dataclasses import dataclass

from runsadmin.models import Run, Thread
from runsadmin.services import connections
from runsadmin.services.edits.deciding import Intent
from runsadmin.services.gateway import TimedResponse
from runsadmin.upstream.records import Page, Response, RunRecord

# A list is compared only with writes whose response was received at most this many seconds before its request.
MAX_WRITE_AGE = 1.0
# After a list that failed or showed none of our writes, the next one is requested this many seconds later.
PAUSE = 5.0


@dataclass(frozen=True)
class _Write:
    """What a write changed: for each key, the values before and after it. None means that the key was absent."""

    run: Run
    changed: dict[str, tuple[object, object]]
    at: float  # When its response was received, in time.monotonic().


class Evidence:
    """Our latest writes on a connection, without those that a list has already shown."""

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self.is_requested = False
        self._writes: dict[str, _Write] = {}  # By upstream id, oldest first.
        self._next_at = 0.0

    def add_write(self, intent: Intent, timed: TimedResponse[RunRecord], at: float) -> None:
        """Adds a write that upstream accepted, unless it changed nothing and so could prove nothing."""
        self._drop_old()
        if not timed.value.shows_metadata:
            return
        before, after = intent.before, timed.value.metadata
        keys = intent.claim.edit.patch.keys
        changed = {key: (before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)}
        run = intent.claim.edit.run
        self._writes.pop(run.upstream_id, None)
        if changed:
            self._writes[run.upstream_id] = _Write(run, changed, at)

    def next_sample(self) -> tuple[Thread, str] | None:
        """The list that would show the most of our latest writes: its thread, and the run after which it starts.

        None if a list is in flight, if it is too early for the next one, or if it would show too few writes.
        """
        self._drop_old()
        now = time.monotonic()
        if self.is_requested or now < self._next_at:
            return None
        in_time = [write.run for write in self._writes.values() if write.at >= now - MAX_WRITE_AGE / 2]
        threads = Counter(run.thread_id for run in in_time)
        if not threads or (most := threads.most_common(1)[0])[1] < 2:
            return None
        runs = [run for run in in_time if run.thread_id == most[0]]
        newest = max(run.created_at for run in runs)
        newer = Run.objects.filter(thread=most[0], created_at__gt=newest).order_by("created_at", "id")
        after = newer.values_list("upstream_id", flat=True).first()
        return runs[0].thread, after or ""

    def compare(self, page: Response[Page]) -> str:
        """Compares a list with the writes before it. Returns a sentence about what is stale, or an empty string."""
        shown = 0
        for record in page.value.records:
            write = self._writes.get(record.upstream_id)
            if write is None or not record.shows_metadata or not write.at <= page.sent <= write.at + MAX_WRITE_AGE:
                continue
            now = {key: record.metadata.get(key) for key in write.changed}
            if now == {key: after for key, (_, after) in write.changed.items()}:
                shown += 1
                del self._writes[record.upstream_id]
            elif now == {key: before for key, (before, _) in write.changed.items()}:
                age = page.sent - write.at
                return f"A list showed the run {record.upstream_id} as it was before our write {age:.2f} s earlier."
        if shown:
            connections.note_fresh_list(self.alias, shown)
            self._next_at = 0.0
        return ""

    def note_requested(self) -> None:
        self.is_requested = True
        self._next_at = time.monotonic() + PAUSE

    def _drop_old(self) -> None:
        # Twice the age, since a list that was requested in time may take just as long to arrive.
        oldest = time.monotonic() - 2 * MAX_WRITE_AGE
        while self._writes and self._writes[run_id := next(iter(self._writes))].at < oldest:
            del self._writes[run_id]
