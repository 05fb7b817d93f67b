"""Threads that call upstream, with as many concurrent requests as the connection allows."""

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from enum import IntEnum
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread
from typing import NamedTuple, Self

from runsadmin.upstream.client import Slot

# There is one spare thread for this many slots. It uses the slot of a thread that is still parsing a response.
REQUESTS_PER_SPARE = 4


class Priority(IntEnum):
    """The order in which threads take jobs.

    Fetches come before writes: if a fetch waited behind a hundred writes, the threads would be idle afterwards. A
    write with its own fetch comes first: if it waited behind many fetches from a slow server, its fetch would be stale.
    """

    STOP = 0
    SINGLE_WRITE = 1
    FETCH = 2
    WRITE = 3


class _Job[R](NamedTuple):
    run: Callable[[Slot], None]
    on_drop: Callable[[], R]


class WorkerPool[R]:
    """Threads make the calls. The thread that collects their results also processes them, into values of type R."""

    def __init__(self, concurrency: int) -> None:
        self._jobs: dict[Priority, deque[_Job[R] | None]] = {priority: deque() for priority in Priority}
        self._results: SimpleQueue[Callable[[], R]] = SimpleQueue()
        # Queues with one item per waiting job and per free slot, since semaphores are slower.
        self._waiting: SimpleQueue[None] = SimpleQueue()
        self._free_slots: SimpleQueue[None] = SimpleQueue()
        for _ in range(concurrency):
            self._free_slots.put(None)
        self.is_closed = False
        self.unfinished = 0  # How many jobs have no collected result yet. Only the submitting thread uses it.
        size = concurrency + -(-concurrency // REQUESTS_PER_SPARE)
        self._threads = [Thread(target=self._work, name=f"upstream-{number}") for number in range(size)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Waits for running jobs. Drops waiting ones."""
        for _thread in self._threads:
            self._put(Priority.STOP, None)
        for thread in self._threads:
            thread.join()

    def submit[T](
        self,
        priority: Priority,
        call: Callable[[Slot], T],
        process: Callable[[T], R],
        on_error: Callable[[BaseException], R],
        on_drop: Callable[[], R],
    ) -> None:
        """Has a thread make a call. `collect` then returns a function that processes its result or error.

        If the pool is closed before a thread starts the call, it is never made, and `collect` returns `on_drop`.
        """

        def run(slot: Slot) -> None:
            try:
                self._results.put(partial(process, call(slot)))
            except BaseException as error:  # noqa: BLE001 - for `on_error`. Without a result, its edit would never end.
                self._results.put(partial(on_error, error))

        self.unfinished += 1
        if self.is_closed:
            self._results.put(on_drop)
        else:
            self._put(priority, _Job(run, on_drop))

    def close(self) -> None:
        """Makes no more calls: drops those that wait, and those that are submitted later. Calls in flight end."""
        self.is_closed = True
        with suppress(Empty):
            while True:
                self._waiting.get_nowait()  # Each item stands for one job, so that no thread takes the same one.
                if job := self._next():
                    self._results.put(job.on_drop)

    def collect(self, limit: int, *, timeout: float, until: float) -> list[Callable[[], R]]:
        """Waits for a result, then until there are `limit` results or `time.monotonic()` reaches `until`.

        Returns functions that process the results.
        """
        results: list[Callable[[], R]] = []
        with suppress(Empty):
            results.append(self._results.get(timeout=timeout))
            while len(results) < limit:
                results.append(self._results.get(timeout=max(0.0, until - time.monotonic())))
            while True:
                results.append(self._results.get_nowait())
        self.unfinished -= len(results)
        return results

    def _put(self, priority: Priority, job: _Job[R] | None) -> None:
        self._jobs[priority].append(job)
        self._waiting.put(None)

    def _next(self) -> _Job[R] | None:
        """Takes the next job. The caller must have taken an item from `_waiting`."""
        while True:  # Another thread may take the job that was found, but then another one is left for this thread.
            for jobs in self._jobs.values():
                with suppress(IndexError):
                    return jobs.popleft()

    def _work(self) -> None:
        slot = _Slot(self._free_slots)
        while True:
            # Take a slot before taking a job, so that no job waits in a thread that cannot send.
            with slot:
                self._waiting.get()
                job = self._next()
                if job is None:
                    return
                job.run(slot)


class _Slot:
    """A thread's right to have one request in flight. It is released as soon as the response has arrived."""

    def __init__(self, free: "SimpleQueue[None]") -> None:
        self._free = free
        self._is_held = False

    def __enter__(self) -> None:
        if not self._is_held:
            self._free.get()
            self._is_held = True

    def __exit__(self, *_: object) -> None:
        if self._is_held:
            self._is_held = False
            self._free.put(None)
