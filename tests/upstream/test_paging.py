"""Reading threads from random pagers: a thread never counts as read while a run is missing."""

import datetime as dt
import random
from dataclasses import dataclass, field

import pytest

from runsadmin.upstream.paging import ThreadReading
from runsadmin.upstream.records import PAGE_SIZE, Page, RunRecord

MAX_REQUESTS = 2000
FAULTS = (
    "after is ignored",
    "after is inclusive",
    "after counts from the other end",
    "after compares only seconds",
    "a page begins one run too late",
    "order is ignored",
    "sorted by id",
    "runs of one second are shuffled",
    "runs come twice",
)


@dataclass
class Pager:
    """Lists runs with some faults. `has_more` says which value it returns: absent, true, false or correct."""

    faults: frozenset[str]
    runs: list[RunRecord]
    max_page_size: int
    has_more: str
    rng: random.Random
    requests: int = field(default=0)

    def page(self, after: str, limit: int, *, oldest_first: bool) -> Page:
        self.requests += 1
        runs = list(self.runs)
        if "runs of one second are shuffled" in self.faults:
            self.rng.shuffle(runs)
        runs.sort(key=created_at)
        if not oldest_first or "order is ignored" in self.faults:
            runs.reverse()
        if "sorted by id" in self.faults:
            runs.sort(key=lambda run: run.upstream_id)
        start = self._start(runs, after, oldest_first=oldest_first)
        if after and "after compares only seconds" in self.faults:
            then = next(created_at(run) for run in runs if run.upstream_id == after)
            runs = [run for run in runs if (created_at(run) > then if oldest_first else created_at(run) < then)]
            start = 0
        size = min(limit, self.max_page_size)
        shown = runs[start : start + size]
        if "runs come twice" in self.faults:
            shown = [run for run in shown for _ in range(2)]
        has_more = {"absent": None, "true": True, "false": False, "correct": start + size < len(runs)}[self.has_more]
        return Page(tuple(shown), tuple(run.upstream_id for run in shown), (), len(shown), has_more)

    def _start(self, runs: list[RunRecord], after: str, *, oldest_first: bool) -> int:
        if not after or "after is ignored" in self.faults:
            return 0
        start = [run.upstream_id for run in runs].index(after) + 1
        start -= "after is inclusive" in self.faults
        start += "a page begins one run too late" in self.faults
        return len(runs) - start if "after counts from the other end" in self.faults and not oldest_first else start


def created_at(run: RunRecord) -> dt.datetime:
    assert run.created_at is not None
    return run.created_at


def read(pager: Pager) -> ThreadReading:
    reading = ThreadReading(began_at=dt.datetime.now(dt.UTC))
    largest = 0
    while not reading.is_over and pager.requests < MAX_REQUESTS:
        pages = reading.current
        pages.limit = pages.limit or PAGE_SIZE
        page = pager.page(pages.cursor, pages.limit, oldest_first=pages.oldest_first)
        largest = max(largest, page.size)
        pages.take(page, largest_page=largest)
        if reading.oldest is None and pages.doubt:
            reading.read_oldest_first()
        reading = ThreadReading.load(reading.dump())  # Each page may be read in another process.
    return reading


def make_pager(seed: int, faults: int) -> Pager:
    rng = random.Random(seed)
    runs_per_second = rng.choice([1, 1, 2, 3, 7])
    runs = [
        RunRecord.read({"id": f"run_{rng.random()}", "created_at": 1_700_000_000 + n // runs_per_second}, thread_id="t")
        for n in range(rng.choice([0, 1, 2, 3, 19, 20, 21, 40, 60, 137, 200, 230]))
    ]
    return Pager(
        frozenset(rng.sample(FAULTS, faults)),
        runs,
        rng.choice([20, 50, 100, 1000]),
        rng.choice(["absent", "true", "false", "correct"]),
        rng,
    )


def test_correct_pager_is_read_completely() -> None:
    for seed in range(200):
        pager = make_pager(seed, faults=0)
        reading = read(pager)
        assert reading.is_complete
        assert len(reading.shown) == len(pager.runs)
        assert reading.oldest is None
        assert pager.requests <= len(pager.runs) // (min(pager.max_page_size, PAGE_SIZE) - 8) + 3


@pytest.mark.parametrize("faults", [1, 2])
def test_complete_reading_has_every_run(faults: int) -> None:
    for seed in range(1000):
        pager = make_pager(seed, faults)
        reading = read(pager)
        assert pager.requests < MAX_REQUESTS
        assert not reading.is_complete or len(reading.shown) == len(pager.runs), (seed, pager.faults)


@pytest.mark.parametrize(
    "fault", ["after is inclusive", "after counts from the other end", "order is ignored", "sorted by id"]
)
def test_pager_with_one_fault_is_read_completely(fault: str) -> None:
    for seed in range(50):
        pager = make_pager(seed, faults=0)
        pager.faults = frozenset({fault})
        assert read(pager).is_complete, seed
